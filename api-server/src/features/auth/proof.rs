//! By what somebody proved who they are, and how sure that is.

/// One way of proving it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Password,
    /// An identity provider said so.
    Federated,
    /// A code of an authenticator app.
    Totp,
    RecoveryCode,
    /// A passkey that does not leave its device.
    HardwareKey,
    /// A passkey that its maker copies between devices.
    SoftwareKey,
}

impl Method {
    const ALL: [Self; 6] =
        [Self::Password, Self::Federated, Self::Totp, Self::RecoveryCode, Self::HardwareKey, Self::SoftwareKey];

    /// Its name in `amr`: RFC 8176 where that has one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "pwd",
            Self::Federated => "fed",
            Self::Totp => "otp",
            Self::RecoveryCode => "recovery",
            Self::HardwareKey => "hwk",
            Self::SoftwareKey => "swk",
        }
    }

    /// Whether it is a passkey. Ours always ask for a finger or a PIN besides: something one has, and is or knows.
    pub fn is_passkey(self) -> bool {
        matches!(self, Self::HardwareKey | Self::SoftwareKey)
    }

    /// Whether it is good for the second step of a sign-in.
    pub fn is_second(self) -> bool {
        self.is_passkey() || matches!(self, Self::Totp | Self::RecoveryCode)
    }
}

/// All the ways in which one session's user proved who they are, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof(Vec<Method>);

impl Proof {
    pub fn by(method: Method) -> Self {
        Self(vec![method])
    }

    #[must_use]
    pub fn and(mut self, method: Method) -> Self {
        if !self.0.contains(&method) {
            self.0.push(method);
        }
        self
    }

    /// Whether two different things were shown, at once or one after the other.
    pub fn is_strong(&self) -> bool {
        self.0.iter().any(|method| method.is_passkey())
            || (self.0.iter().any(|method| method.is_second()) && self.0.iter().any(|method| !method.is_second()))
    }

    /// `aal` and `acr` of a token.
    pub fn level(&self) -> &'static str {
        if self.is_strong() { "aal2" } else { "aal1" }
    }

    /// `amr` of a token.
    pub fn amr(&self) -> Vec<String> {
        let mfa = self.is_strong().then_some("mfa");
        self.0.iter().map(|method| method.as_str()).chain(mfa).map(str::to_owned).collect()
    }

    /// As it is kept.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|method| method.as_str().to_owned()).collect()
    }

    /// From how it is kept. A way that this version does not know proves nothing to it.
    pub fn of_names(names: &[String]) -> Self {
        let known = |name: &String| Method::ALL.into_iter().find(|method| method.as_str() == name);
        Self(names.iter().filter_map(known).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_different_things_are_more_than_one_or_the_same_twice() {
        use Method::{Federated, HardwareKey, Password, RecoveryCode, SoftwareKey, Totp};
        for (methods, level) in [
            (vec![], "aal1"),
            (vec![Password], "aal1"),
            (vec![Federated], "aal1"),
            (vec![Password, Federated], "aal1"),
            (vec![Totp, RecoveryCode], "aal1"),
            (vec![Password, Totp], "aal2"),
            (vec![Federated, RecoveryCode], "aal2"),
            (vec![HardwareKey], "aal2"),
            (vec![SoftwareKey, Password], "aal2"),
        ] {
            let proof = methods.iter().fold(Proof::default(), |proof, method| proof.and(*method));
            assert_eq!(proof.level(), level, "{methods:?}");
            assert_eq!(Proof::of_names(&proof.names()), proof);
            assert_eq!(proof.amr().contains(&"mfa".to_owned()), level == "aal2");
        }
        assert_eq!(Proof::of_names(&["telepathy".into(), "pwd".into()]), Proof::by(Password));
    }
}
