//! A payment, its states and the moves between them.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{money::Money, providers::Checkout};
use crate::extract::UserId;

/// Money on its way from a payer to the tenant.
#[derive(Clone, Debug)]
pub struct Payment {
    pub id: Uuid,
    pub user: UserId,
    pub money: Money,
    pub kind: Kind,
    pub status: Status,
    pub description: Option<String>,
    /// Which PaymentProvider of the tenant it goes through.
    pub provider: String,
    /// The provider's id of the page on which to pay.
    pub reference: Option<String>,
    pub checkout_url: Option<String>,
    /// Where the payer is sent afterwards; kept, so that a repeated call to the provider is the same call.
    pub return_url: String,
    pub failure: Option<Failure>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Why a payment failed, in the provider's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: String,
    pub message: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        $(#[$doc])*
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            /// In any case, as people write it in filters.
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let found = Self::ALL.iter().find(|word| word.as_str().eq_ignore_ascii_case(text));
                found.copied().ok_or_else(|| UnknownWord { word: text.to_owned(), known: concat!($($word, " "),+) })
            }
        }
    };
}

/// A word that is none of those that stand here.
#[derive(Debug, thiserror::Error)]
#[error("{word:?} is none of {known}")]
pub struct UnknownWord {
    word: String,
    known: &'static str,
}

words! {
    /// Who began it.
    #[schema(as = PaymentType)]
    Kind {
        /// A vendor asks for the money.
        Initiate = "initiate",
        /// A customer pays of their own accord.
        Payment = "payment",
    }
}

words! {
    /// Where a payment stands.
    #[schema(as = PaymentStatus)]
    Status {
        /// We mean to take it; the provider has not confirmed that it knows.
        Pending = "pending",
        /// The payer can pay.
        Initiated = "initiated",
        /// The payer has paid, the money is on its way.
        Processing = "processing",
        /// The money is there.
        Completed = "completed",
        /// No money will come.
        Failed = "failed",
        /// Called off before anything was paid.
        Cancelled = "cancelled",
    }
}

impl Status {
    /// The states that can follow. What is final stays, whatever arrives late.
    pub fn next(self) -> &'static [Self] {
        match self {
            Self::Pending => &[Self::Initiated, Self::Processing, Self::Completed, Self::Failed, Self::Cancelled],
            Self::Initiated => &[Self::Processing, Self::Completed, Self::Failed, Self::Cancelled],
            Self::Processing => &[Self::Completed, Self::Failed],
            Self::Completed | Self::Failed | Self::Cancelled => &[],
        }
    }

    pub fn may_become(self, next: Self) -> bool {
        self.next().contains(&next)
    }
}

/// What a provider's word about a checkout means for a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Moves(Status),
    /// It says what we know already, or came late.
    Nothing,
    /// It is about another payment, or about other money: believe none of it.
    Mismatch(&'static str),
}

impl Payment {
    /// Weighs what the provider says. `units` is this payment's amount as the provider counts it.
    pub fn weigh(&self, checkout: &Checkout, units: Option<i64>) -> News {
        let other = |ours: Option<&str>, theirs: &str| ours.is_some_and(|ours| ours != theirs);
        let settles = checkout.status == Status::Completed;
        // What claims that money came must say how much; what else says nothing of the amount may pass.
        let amount = checkout.amount.map_or(!settles, |amount| Some(amount) == units);
        let currency = checkout.currency.as_deref().map_or(!settles, |code| code == self.money.currency().as_str());
        match () {
            () if other(self.reference.as_deref(), &checkout.reference) => News::Mismatch("checkout"),
            () if checkout.payment.is_some_and(|payment| payment != self.id) => News::Mismatch("payment"),
            () if !amount => News::Mismatch("amount"),
            () if !currency => News::Mismatch("currency"),
            () if self.status.may_become(checkout.status) => News::Moves(checkout.status),
            () => News::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::Currency;

    use super::*;

    fn payment(status: Status) -> Payment {
        Payment {
            id: Uuid::from_u128(1),
            user: UserId(Uuid::from_u128(2)),
            money: Money::new("10".parse().unwrap(), Currency::new("EUR").unwrap()).unwrap(),
            kind: Kind::Payment,
            status,
            description: None,
            provider: "stripe".into(),
            reference: Some("cs_1".into()),
            checkout_url: None,
            return_url: "https://shop.example/".into(),
            failure: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn checkout(status: Status) -> Checkout {
        Checkout {
            reference: "cs_1".into(),
            payment: Some(Uuid::from_u128(1)),
            url: None,
            status,
            amount: Some(1_000),
            currency: Some("EUR".into()),
        }
    }

    #[test]
    fn what_is_final_never_moves_and_nothing_moves_back() {
        for from in Status::ALL {
            for to in Status::ALL {
                let news = payment(*from).weigh(&checkout(*to), Some(1_000));
                let expected = if from.may_become(*to) { News::Moves(*to) } else { News::Nothing };
                assert_eq!(news, expected, "{from} → {to}");
                assert!(!(from.may_become(*to) && to.may_become(*from)), "{from} ⇄ {to}");
            }
        }
    }

    #[test]
    fn a_word_about_other_money_is_not_believed() {
        let ours = payment(Status::Initiated);
        let paid = checkout(Status::Completed);
        for (other, field) in [
            (Checkout { reference: "cs_2".into(), ..paid.clone() }, "checkout"),
            (Checkout { payment: Some(Uuid::from_u128(9)), ..paid.clone() }, "payment"),
            (Checkout { amount: Some(999), ..paid.clone() }, "amount"),
            (Checkout { amount: None, ..paid.clone() }, "amount"),
            (Checkout { currency: Some("USD".into()), ..paid.clone() }, "currency"),
            (Checkout { currency: None, ..paid.clone() }, "currency"),
        ] {
            assert_eq!(ours.weigh(&other, Some(1_000)), News::Mismatch(field));
        }
        let silent = Checkout { amount: None, currency: None, payment: None, ..checkout(Status::Cancelled) };
        assert_eq!(ours.weigh(&silent, Some(1_000)), News::Moves(Status::Cancelled));
    }

    #[test]
    fn a_word_is_read_in_any_case_and_an_unknown_one_names_those_that_are_known() {
        assert_eq!("COMPLETED".parse::<Status>().unwrap(), Status::Completed);
        let error = "done".parse::<Status>().unwrap_err().to_string();
        assert!(error.contains("pending initiated processing"), "{error}");
    }
}
