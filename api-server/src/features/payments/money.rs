//! Amounts, exact from the wire to the database and back: never a float, and never more digits than the currency has.

use std::fmt;

use contract::Currency;
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

/// An amount of a currency that has it: positive, and in whole minor units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    #[error("{0} is not a currency of ISO 4217: use a code such as EUR")]
    UnknownCurrency(Currency),
    #[error("{0} is not an amount to pay: it must be greater than 0")]
    NotPositive(Decimal),
    #[error("{amount} has more decimals than {currency} has: use at most {scale}")]
    TooFine { amount: Decimal, currency: Currency, scale: u32 },
    #[error("{0} is more than can be paid at once")]
    TooLarge(Decimal),
}

impl Money {
    pub fn new(amount: Decimal, currency: Currency) -> Result<Self, MoneyError> {
        let Some(scale) = scale(currency.as_str()) else {
            return Err(MoneyError::UnknownCurrency(currency));
        };
        if amount <= Decimal::ZERO {
            return Err(MoneyError::NotPositive(amount));
        }
        let mut scaled = amount.normalize();
        if scaled.scale() > scale {
            return Err(MoneyError::TooFine { amount, currency, scale });
        }
        scaled.rescale(scale);
        // Providers count minor units in 64 bits; what does not fit is no payment.
        if scaled.scale() != scale || i64::try_from(scaled.mantissa()).is_err() {
            return Err(MoneyError::TooLarge(amount));
        }
        Ok(Self { amount: scaled, currency })
    }

    pub fn amount(&self) -> Decimal {
        self.amount
    }

    pub fn currency(&self) -> &Currency {
        &self.currency
    }

    /// In the currency's smallest unit.
    pub fn minor(&self) -> i128 {
        self.amount.mantissa()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

/// An amount as it is written in JSON: read from a number or a string, written as a number literal with the currency's
/// decimals (`100.00`). The digits are taken as they stand; no float is between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Literal(pub Decimal);

impl Literal {
    fn parse(text: &str) -> Option<Decimal> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        // Stricter than `Decimal`'s own reading, which takes "1_000", "+1" and ".5" too.
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
        let well_formed = match unsigned.split_once('.') {
            Some((whole, fraction)) => digits(whole) && digits(fraction),
            None => digits(unsigned),
        };
        if !well_formed {
            return None;
        }
        let value = Decimal::from_str_exact(mantissa).ok()?;
        let shift = |by: u32| Decimal::try_from_i128_with_scale(10_i128.checked_pow(by)?, 0).ok();
        match exponent {
            0 => Some(value),
            1.. => value.checked_mul(shift(exponent.unsigned_abs())?),
            ..0 => {
                let mut finer = value.normalize();
                finer.set_scale(finer.scale().checked_add(exponent.unsigned_abs())?).ok()?;
                Some(finer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?.get();
        let text = match raw.as_bytes().first() {
            Some(b'"') => serde_json::from_str(raw).map_err(de::Error::custom)?,
            _ => raw.to_owned(),
        };
        let amount = Self::parse(text.trim()).map(Self);
        amount.ok_or_else(|| {
            de::Error::custom(format_args!("{raw} is not an amount: use a decimal number such as 100.00"))
        })
    }
}

impl Serialize for Literal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.0.to_string()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

/// How many decimals a currency of ISO 4217 has.
pub fn scale(currency: &str) -> Option<u32> {
    let listed = |list: &str| list.split(' ').any(|code| code == currency);
    match () {
        () if listed(NO_DECIMALS) => Some(0),
        () if listed(THREE_DECIMALS) => Some(3),
        () if listed(TWO_DECIMALS) => Some(2),
        () => None,
    }
}

const NO_DECIMALS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF";
const THREE_DECIMALS: &str = "BHD IQD JOD KWD LYD OMR TND";
const TWO_DECIMALS: &str = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF \
    CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR \
    JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK \
    NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT \
    TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";

#[cfg(test)]
mod tests {
    use super::*;

    fn money(json: &str, currency: &str) -> Result<Money, String> {
        let Literal(amount) = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let currency = Currency::new(currency).map_err(|e| e.to_string())?;
        Money::new(amount, currency).map_err(|e| e.to_string())
    }

    #[test]
    fn a_number_and_a_string_are_read_exactly() {
        for (json, currency, minor, literal) in [
            ("100.00", "USD", 10_000, "100.00"),
            ("\"100\"", "USD", 10_000, "100.00"),
            ("0.1", "EUR", 10, "0.10"),
            ("9007199254740993", "JPY", 9_007_199_254_740_993, "9007199254740993"),
            ("90071992547409.93", "USD", 9_007_199_254_740_993, "90071992547409.93"),
            ("1.5e2", "USD", 15_000, "150.00"),
            ("1500E-2", "USD", 1_500, "15.00"),
            ("1.2340", "KWD", 1_234, "1.234"),
            ("5.000", "JPY", 5, "5"),
        ] {
            let money = money(json, currency).unwrap();
            assert_eq!(money.minor(), minor, "{json}");
            assert_eq!(serde_json::to_string(&Literal(money.amount())).unwrap(), literal);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_the_reason() {
        for (json, currency, reason) in [
            ("0", "USD", "greater than 0"),
            ("-1", "USD", "greater than 0"),
            ("1.001", "USD", "use at most 2"),
            ("0.5", "JPY", "use at most 0"),
            ("1", "XXL", "not a currency"),
            ("92233720368547758.08", "USD", "more than can be paid"),
            ("1e27", "USD", "more than can be paid"),
            ("1e999", "USD", "is not an amount"),
            ("1e-999", "USD", "is not an amount"),
            ("1e99999999999", "USD", "is not an amount"),
            ("\"1_000\"", "USD", "is not an amount"),
            ("\"+5\"", "USD", "is not an amount"),
            ("\".5\"", "USD", "is not an amount"),
            ("\"0x10\"", "USD", "is not an amount"),
            ("\"NaN\"", "USD", "is not an amount"),
            ("null", "USD", "is not an amount"),
            ("[1]", "USD", "is not an amount"),
            ("0.00000000000000000000000000000000001", "USD", "is not an amount"),
        ] {
            let error = money(json, currency).unwrap_err();
            assert!(error.contains(reason), "{json} {currency}: {error}");
        }
    }

    #[test]
    fn no_currency_stands_in_two_lists() {
        let mut all: Vec<&str> =
            [NO_DECIMALS, TWO_DECIMALS, THREE_DECIMALS].iter().flat_map(|l| l.split(' ')).collect();
        let listed = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), listed);
        assert!(all.iter().all(|code| code.len() == 3));
    }
}
