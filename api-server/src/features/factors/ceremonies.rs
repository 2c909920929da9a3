//! The verbs about passkeys. A ceremony has two halves: options for the browser, and what the authenticator made of them. The
//! server's half waits in PostgreSQL and is taken out by the first answer, whether that is right or not.

use std::sync::Arc;

use contract::TenantId;
use serde_json::{Value, json};
use uuid::Uuid;
use webauthn_rs::prelude::{
    AuthenticationResult, DiscoverableAuthentication, Passkey, PasskeyAuthentication, PasskeyRegistration,
    PublicKeyCredential, RegisterPublicKeyCredential, WebauthnError,
};

use super::{
    challenges::{self, Challenge, NewChallenge, Purpose},
    model::{FactorsError, Held, StoredPasskey},
    passkeys as repo,
    repo::{delete_challenge, held, lock_challenge},
    service::{Activated, Factors},
    site::Site,
};
use crate::{
    extract::{CurrentUser, UserId},
    features::{
        audit::{self, Entry},
        auth::{Device, Entered, Method, Proof},
        users,
    },
    infra::{TenantTx, Token},
    tenancy::TenantSnapshot,
};

/// More than anyone has devices for.
const MOST_PASSKEYS: i64 = 20;

/// The browser's half of a ceremony.
pub struct Ceremony {
    pub token: Token,
    /// For `navigator.credentials`.
    pub options: Value,
}

/// What an authenticator answered at a login or step-up.
pub struct Answered {
    pub ceremony: Token,
    pub credential: Box<PublicKeyCredential>,
    pub site: Site,
}

impl Factors {
    /// Begins to make a passkey.
    pub async fn begin_registration(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        site: &Site,
    ) -> Result<Ceremony, FactorsError> {
        let webauthn = site.webauthn(&tenant.display_name)?;
        let mut tx = self.db.begin(tenant.id).await?;
        if held(&mut tx, me.id).await?.passkeys >= MOST_PASSKEYS {
            return Err(FactorsError::TooManyPasskeys);
        }
        let known = repo::list(&mut tx, me.id).await?;
        let known = known.iter().filter(|passkey| passkey.rp_id == site.rp_id);
        let exclude = known.map(|passkey| passkey.credential_id.clone()).collect();
        let (options, state) = webauthn.start_passkey_registration(me.id.0, &me.email, &me.name, Some(exclude))?;
        let mut options = to_value(&options)?;
        // Kept on the device where that can, so that it signs in without an address.
        if let Some(selection) = options.pointer_mut("/publicKey/authenticatorSelection") {
            selection["residentKey"] = json!("preferred");
        }
        let token = self.begin_ceremony(&mut tx, Purpose::Registration, Some(me.id), to_value(&state)?).await?;
        tx.commit().await?;
        Ok(Ceremony { token, options })
    }

    /// Keeps the passkey that an authenticator made. The first factor of an account ends the user's other sessions.
    #[expect(clippy::too_many_arguments, reason = "who, where, which ceremony, what came of it")]
    pub async fn finish_registration(
        &self,
        tenant: &Arc<TenantSnapshot>,
        me: &CurrentUser,
        site: &Site,
        ceremony: &Token,
        credential: &RegisterPublicKeyCredential,
        name: &str,
        device: &Device,
    ) -> Result<(StoredPasskey, Activated), FactorsError> {
        let begun = self.take_ceremony(tenant.id, ceremony, Purpose::Registration).await?;
        if begun.user != Some(me.id) {
            return Err(FactorsError::InvalidCeremony);
        }
        let state: PasskeyRegistration = from_state(begun.state)?;
        let passkey = site.webauthn(&tenant.display_name)?.finish_passkey_registration(credential, &state)?;
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        users::repo::lock_user(&mut tx, me.id).await?;
        let first = !held(&mut tx, me.id).await?.any();
        let value = to_value(&passkey)?;
        let synchronised = value.pointer("/cred/backup_eligible") == Some(&Value::Bool(true));
        let method = if synchronised { Method::SoftwareKey } else { Method::HardwareKey };
        let stored = StoredPasskey {
            id: Uuid::now_v7(),
            user: me.id,
            rp_id: site.rp_id.clone(),
            credential_id: passkey.cred_id().clone(),
            counter: value.pointer("/cred/counter").and_then(Value::as_i64).unwrap_or_default(),
            credential: value,
            name: name.to_owned(),
            created_at: now,
            last_used_at: None,
        };
        repo::insert(&mut tx, &stored).await?;
        let activated = self.activated(tx, tenant, me, method, first, device, now).await?;
        Ok((stored, activated))
    }

    /// Begins a login by a passkey alone: which one, and whose, the browser finds out.
    pub async fn begin_login(
        &self,
        tenant: &TenantSnapshot,
        site: &Site,
        conditional: bool,
    ) -> Result<Ceremony, FactorsError> {
        let webauthn = site.webauthn(&tenant.display_name)?;
        let (mut options, state) = webauthn.start_discoverable_authentication()?;
        if !conditional {
            options.mediation = None;
        }
        let mut tx = self.db.begin(tenant.id).await?;
        let token = self.begin_ceremony(&mut tx, Purpose::PasskeyLogin, None, to_value(&state)?).await?;
        tx.commit().await?;
        Ok(Ceremony { token, options: to_value(&options)? })
    }

    /// Lets in whose passkey it is.
    pub async fn finish_passkey_login(
        &self,
        tenant: &Arc<TenantSnapshot>,
        answered: &Answered,
        device: &Device,
    ) -> Result<Entered, FactorsError> {
        let begun = self.take_ceremony(tenant.id, &answered.ceremony, Purpose::PasskeyLogin).await?;
        let state: DiscoverableAuthentication = from_state(begun.state)?;
        let webauthn = answered.site.webauthn(&tenant.display_name)?;
        let owner = webauthn.identify_discoverable_authentication(&answered.credential);
        let user = owner.map(|(user, _)| UserId(user)).map_err(|_| FactorsError::WrongPasskey)?;
        let mut tx = self.db.begin(tenant.id).await?;
        users::repo::lock_user(&mut tx, user).await?;
        let found = repo::find(&mut tx, user, &answered.site.rp_id, &answered.credential.raw_id).await?;
        let (stored, passkey) = found.ok_or(FactorsError::WrongPasskey).and_then(|stored| {
            let passkey: Passkey = from_state(Some(stored.credential.clone()))?;
            Ok((stored, passkey))
        })?;
        let result = webauthn.finish_discoverable_authentication_v2(&answered.credential, state, &passkey);
        let Some(method) = self.used(&mut tx, &stored, passkey, result).await? else {
            // What was found out about the passkey stays on record.
            tx.commit().await?;
            return Err(FactorsError::WrongPasskey);
        };
        let user = users::repo::find_user(&mut tx, user).await?.ok_or(FactorsError::WrongPasskey)?;
        Ok(self.auth.enter(tx, tenant, user, Proof::by(method), "LOGIN", device).await?)
    }

    /// Begins the second step of a login by a passkey.
    pub async fn begin_second_factor(
        &self,
        tenant: &TenantSnapshot,
        site: &Site,
        login: &Token,
    ) -> Result<Ceremony, FactorsError> {
        let mut tx = self.db.begin(tenant.id).await?;
        let begun = lock_challenge(&mut tx, &login.digest(), Purpose::Login, self.clock.now()).await?;
        // Let go of it: whoever finishes this login at the same time holds the account and waits for the challenge, and a new
        // challenge wants the account.
        tx.commit().await?;
        let user = begun.and_then(|challenge| challenge.user).ok_or(FactorsError::InvalidToken)?;
        self.begin_proof(self.db.begin(tenant.id).await?, tenant, site, user).await
    }

    /// Begins to prove again who the signed-in user is, by a passkey.
    pub async fn begin_step_up(
        &self,
        tenant: &TenantSnapshot,
        site: &Site,
        me: &CurrentUser,
    ) -> Result<Ceremony, FactorsError> {
        let tx = self.db.begin(tenant.id).await?;
        self.begin_proof(tx, tenant, site, me.id).await
    }

    async fn begin_proof(
        &self,
        mut tx: TenantTx,
        tenant: &TenantSnapshot,
        site: &Site,
        user: UserId,
    ) -> Result<Ceremony, FactorsError> {
        let mut passkeys: Vec<Passkey> = vec![];
        for stored in repo::list(&mut tx, user).await? {
            if stored.rp_id == site.rp_id {
                passkeys.push(from_state(Some(stored.credential))?);
            }
        }
        if passkeys.is_empty() {
            return Err(FactorsError::NoFactor);
        }
        let webauthn = site.webauthn(&tenant.display_name)?;
        let (options, state) = webauthn.start_passkey_authentication(&passkeys)?;
        let token = self.begin_ceremony(&mut tx, Purpose::PasskeyProof, Some(user), to_value(&state)?).await?;
        tx.commit().await?;
        Ok(Ceremony { token, options: to_value(&options)? })
    }

    /// Whether a passkey of this user answered the ceremony rightly. Uses the ceremony up.
    pub(super) async fn check_passkey(
        &self,
        tx: &mut TenantTx,
        tenant: &TenantSnapshot,
        user: UserId,
        answered: &Answered,
    ) -> Result<Option<Method>, FactorsError> {
        let digest = answered.ceremony.digest();
        let begun = lock_challenge(tx, &digest, Purpose::PasskeyProof, self.clock.now()).await?;
        let Some(begun) = begun.filter(|begun| begun.user == Some(user)) else { return Ok(None) };
        delete_challenge(tx, &digest).await?;
        let state: PasskeyAuthentication = from_state(begun.state)?;
        let found = repo::find(tx, user, &answered.site.rp_id, &answered.credential.raw_id).await?;
        let Some(stored) = found else { return Ok(None) };
        let passkey: Passkey = from_state(Some(stored.credential.clone()))?;
        let webauthn = answered.site.webauthn(&tenant.display_name)?;
        let result = webauthn.finish_passkey_authentication(&answered.credential, &state);
        self.used(tx, &stored, passkey, result).await
    }

    /// Notes a use of a passkey, or that it was refused: a counter that does not go up speaks of a copy of it.
    async fn used(
        &self,
        tx: &mut TenantTx,
        stored: &StoredPasskey,
        mut passkey: Passkey,
        result: Result<AuthenticationResult, WebauthnError>,
    ) -> Result<Option<Method>, FactorsError> {
        let now = self.clock.now();
        let cloned = match result {
            Ok(result) => {
                passkey.update_credential(&result);
                let counter = i64::from(result.counter());
                // The state of the ceremony has the counter as it was when that began: the row has it as it is.
                if repo::count_use(tx, stored.id, &to_value(&passkey)?, counter, now).await? {
                    let method = if result.backup_eligible() { Method::SoftwareKey } else { Method::HardwareKey };
                    return Ok(Some(method));
                }
                true
            }
            Err(WebauthnError::CredentialPossibleCompromise) => true,
            Err(error) => {
                tracing::debug!(%error, "a passkey's answer was refused");
                false
            }
        };
        if cloned {
            let details = json!({ "passkeyId": stored.id, "name": stored.name });
            let entry = Entry::on_user(stored.user, "PASSKEY_CLONED").with(details).failed();
            audit::record_in_tx(tx, &entry, now).await?;
        }
        Ok(None)
    }

    pub async fn passkeys(&self, tenant: TenantId, user: UserId) -> Result<Vec<StoredPasskey>, FactorsError> {
        let mut tx = self.db.begin(tenant).await?;
        let passkeys = repo::list(&mut tx, user).await?;
        tx.commit().await?;
        Ok(passkeys)
    }

    pub async fn rename_passkey(
        &self,
        tenant: TenantId,
        me: &CurrentUser,
        id: Uuid,
        name: &str,
        device: &Device,
    ) -> Result<StoredPasskey, FactorsError> {
        let mut tx = self.db.begin(tenant).await?;
        let renamed = repo::rename(&mut tx, me.id, id, name).await?.ok_or(FactorsError::NoSuchPasskey)?;
        let entry = Entry::on_user(me.id, "RENAME_PASSKEY").by(me.id).from(device).with(json!({ "passkeyId": id }));
        audit::record_in_tx(&mut tx, &entry, self.clock.now()).await?;
        tx.commit().await?;
        Ok(renamed)
    }

    /// Takes a passkey away. The user's other sessions end: it may be the one of a device that was lost.
    pub async fn delete_passkey(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        id: Uuid,
        device: &Device,
    ) -> Result<usize, FactorsError> {
        let mut tx = self.db.begin(tenant.id).await?;
        users::repo::lock_user(&mut tx, me.id).await?;
        if !repo::delete(&mut tx, me.id, id).await? {
            return Err(FactorsError::NoSuchPasskey);
        }
        let left: Held = held(&mut tx, me.id).await?;
        self.removed(tx, tenant, me, left, "passkey", device, self.clock.now()).await
    }

    async fn begin_ceremony(
        &self,
        tx: &mut TenantTx,
        purpose: Purpose,
        user: Option<UserId>,
        state: Value,
    ) -> Result<Token, sqlx::Error> {
        let new = NewChallenge { purpose, user, proof: &Proof::default(), state: Some(state) };
        challenges::begin(tx, &new, self.clock.now()).await
    }

    /// Takes a ceremony out: whatever its answer is worth, there is no second one.
    async fn take_ceremony(
        &self,
        tenant: TenantId,
        token: &Token,
        purpose: Purpose,
    ) -> Result<Challenge, FactorsError> {
        let digest = token.digest();
        let mut tx = self.db.begin(tenant).await?;
        let begun = lock_challenge(&mut tx, &digest, purpose, self.clock.now()).await?;
        delete_challenge(&mut tx, &digest).await?;
        tx.commit().await?;
        begun.ok_or(FactorsError::InvalidCeremony)
    }
}

fn to_value(what: &impl serde::Serialize) -> Result<Value, FactorsError> {
    serde_json::to_value(what).map_err(|error| FactorsError::State(error.to_string()))
}

fn from_state<T: serde::de::DeserializeOwned>(state: Option<Value>) -> Result<T, FactorsError> {
    serde_json::from_value(state.unwrap_or_default()).map_err(|error| FactorsError::State(error.to_string()))
}
