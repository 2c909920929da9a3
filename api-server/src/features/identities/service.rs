//! The verbs of the room. Transactions begin and end here; none is open while a provider is asked.

use std::sync::Arc;

use contract::auth::{ExistingAccounts, IdentityProvider, NewAccounts};
use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::{
    model::{self, FLOW_LASTS, Flow, FlowSecret, Identity, IdentityError},
    openid::{OpenId, Person, Returned},
    repo,
};
use crate::{
    extract::{CurrentUser, User, UserId},
    features::{
        audit::{self, Entry},
        auth::{Auth, DEFAULT_ROLE, Device, Entered, Method, Proof},
        factors,
        users::{self, FullName},
    },
    infra::{Clock, Db, Outbound, TenantTx},
    tenancy::TenantSnapshot,
};

/// The room's handle. Cheap to clone.
#[derive(Clone)]
pub struct Identities {
    db: Db,
    clock: Clock,
    auth: Auth,
    openid: OpenId,
}

/// A sign-in that has begun: where the browser goes, and what it keeps meanwhile.
pub struct Begun {
    pub authorization_url: String,
    pub flow: FlowSecret,
    pub expires_in: i64,
}

/// What the browser brings back.
pub struct Answer {
    pub code: String,
    pub state: String,
    pub iss: Option<String>,
    pub flow: String,
}

/// What a provider said, and where that leads.
struct Come {
    flow: Flow,
    provider: IdentityProvider,
    person: Person,
}

impl Identities {
    pub fn new(db: Db, clock: Clock, auth: Auth, outbound: Outbound) -> Self {
        let openid = OpenId::new(outbound, clock.clone());
        Self { db, clock, auth, openid }
    }

    /// Begins a sign-in, or for `user` the linking of their account.
    pub async fn begin(
        &self,
        tenant: &TenantSnapshot,
        provider: &str,
        redirect_uri: &str,
        user: Option<UserId>,
    ) -> Result<Begun, IdentityError> {
        let provider = model::provider(tenant, provider)?;
        model::redirect_uri(tenant, redirect_uri)?;
        let secret = FlowSecret::random();
        let authorization_url = self.openid.authorization_url(provider, redirect_uri, &secret).await?.to_string();
        let now = self.clock.now();
        let flow = Flow {
            provider: provider.name.clone(),
            redirect_uri: redirect_uri.to_owned(),
            user,
            expires_at: now.saturating_add(FLOW_LASTS).unwrap_or(Timestamp::MAX),
        };
        let mut tx = self.db.begin(tenant.id).await?;
        repo::insert_flow(&mut tx, &secret.digest(), &flow, now).await?;
        tx.commit().await?;
        Ok(Begun { authorization_url, flow: secret, expires_in: FLOW_LASTS.as_secs() })
    }

    /// Signs in who came back from a provider.
    pub async fn sign_in(
        &self,
        tenant: &Arc<TenantSnapshot>,
        answer: &Answer,
        device: &Device,
    ) -> Result<Entered, IdentityError> {
        let Come { provider, person, flow } = self.come_back(tenant, answer).await?;
        if flow.user.is_some() {
            return Err(IdentityError::OtherFlow);
        }
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        let user = self.account(&mut tx, tenant, &provider, &person, device, now).await?;
        if !user.is_active {
            return Err(IdentityError::Deactivated);
        }
        Ok(self.auth.enter(tx, tenant, user, Proof::by(Method::Federated), "LOGIN", device).await?)
    }

    /// Links who came back from a provider to the account of who is signed in here.
    pub async fn link(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        answer: &Answer,
        device: &Device,
    ) -> Result<Identity, IdentityError> {
        let Come { provider, person, flow } = self.come_back(tenant, answer).await?;
        if flow.user != Some(me.id) {
            return Err(IdentityError::OtherFlow);
        }
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        let email = person.email.as_deref();
        // An account that is banned or deleted meanwhile gets no way in.
        users::repo::lock_user(&mut tx, me.id).await?;
        let user = users::repo::find_user(&mut tx, me.id).await?;
        user.filter(|user| user.is_active).ok_or(IdentityError::Deactivated)?;
        let identity = repo::link(&mut tx, me.id, &provider.issuer, &person.subject, email, now)
            .await?
            .ok_or(IdentityError::LinkedElsewhere)?;
        record_link(&mut tx, me.id, &provider, device, now).await?;
        tx.commit().await?;
        Ok(identity)
    }

    pub async fn list(&self, tenant: &TenantSnapshot, me: &CurrentUser) -> Result<Vec<Identity>, IdentityError> {
        let mut tx = self.db.begin(tenant.id).await?;
        let identities = repo::identities_of(&mut tx, me.id).await?;
        tx.commit().await?;
        Ok(identities)
    }

    /// Takes a link away, unless nobody could sign in to the account after that.
    pub async fn unlink(
        &self,
        tenant: &TenantSnapshot,
        me: &CurrentUser,
        id: Uuid,
        device: &Device,
    ) -> Result<(), IdentityError> {
        let now = self.clock.now();
        let mut tx = self.db.begin(tenant.id).await?;
        // Two requests must not each leave the other's link as the last one.
        users::repo::lock_user(&mut tx, me.id).await?;
        let identities = repo::identities_of(&mut tx, me.id).await?;
        if !identities.iter().any(|identity| identity.id == id) {
            return Err(IdentityError::NoSuchIdentity);
        }
        let otherwise = identities.len() > 1
            || users::repo::password_hash(&mut tx, me.id).await?.is_some()
            || factors::held(&mut tx, me.id).await?.passkeys > 0;
        if !otherwise {
            return Err(IdentityError::LastWayIn);
        }
        repo::unlink(&mut tx, me.id, id).await?;
        let entry = Entry::on_user(me.id, "UNLINK_IDENTITY").by(me.id).from(device).with(json!({ "identityId": id }));
        audit::record_in_tx(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Takes the flow out, so that it counts once, and asks its provider who this is.
    async fn come_back(&self, tenant: &TenantSnapshot, answer: &Answer) -> Result<Come, IdentityError> {
        let secret = FlowSecret::given(&answer.flow).ok_or(IdentityError::NoSuchFlow)?;
        let mut tx = self.db.begin(tenant.id).await?;
        let flow = repo::take_flow(&mut tx, &secret.digest()).await?;
        tx.commit().await?;
        let flow = flow.filter(|flow| flow.expires_at > self.clock.now()).ok_or(IdentityError::NoSuchFlow)?;
        if !secret.is_state(&answer.state) {
            return Err(IdentityError::OtherFlow);
        }
        let provider = model::provider(tenant, &flow.provider)?.clone();
        let client_secret = tenant.secret(&IdentityProvider::seal_field(&provider.name));
        let returned = Returned { code: &answer.code, iss: answer.iss.as_deref(), redirect_uri: &flow.redirect_uri };
        let person = self.openid.identify(&provider, client_secret, &secret, &returned).await?;
        Ok(Come { flow, provider, person })
    }

    /// The account behind an identity: the one that is linked, the one with the address where that may be, or a new one.
    async fn account(
        &self,
        tx: &mut TenantTx,
        tenant: &TenantSnapshot,
        provider: &IdentityProvider,
        person: &Person,
        device: &Device,
        now: Timestamp,
    ) -> Result<User, IdentityError> {
        let (issuer, subject) = (provider.issuer.as_str(), person.subject.as_str());
        let email = person.email.as_deref().and_then(users::email);
        if let Some(id) = repo::owner(tx, issuer, subject).await? {
            // Under the lock, so that an account that is banned or deleted meanwhile gets no session.
            users::repo::lock_user(tx, id).await?;
            repo::used(tx, issuer, subject, email.as_deref(), now).await?;
            return users::repo::find_user(tx, id).await?.ok_or(IdentityError::Deactivated);
        }
        // Without the provider's word for the address, anybody could take the place of whom it belongs to.
        let email = email.filter(|_| person.email_verified).ok_or(IdentityError::NoVerifiedEmail)?;
        users::repo::lock_by_email(tx, &email).await?;
        let user = match users::repo::find_by_email(tx, &email).await? {
            Some((user, _)) => {
                let trusted = provider.existing_accounts == ExistingAccounts::LinkVerifiedEmail;
                if !(trusted && user.email_verified) {
                    return Err(IdentityError::AccountExists);
                }
                user
            }
            None if provider.new_accounts == NewAccounts::Refuse => return Err(IdentityError::NoNewAccounts),
            None => {
                users::has_room(tx, tenant).await?;
                let name = name(person, &email);
                let user = users::repo::insert_user(tx, &email, &name, None, DEFAULT_ROLE, now).await?;
                users::repo::mark_verified(tx, user.id, now).await?;
                let details = json!({ "provider": provider.name });
                let entry = Entry::on_user(user.id, "REGISTER").by(user.id).from(device).with(details);
                audit::record_in_tx(tx, &entry, now).await?;
                User { email_verified: true, ..user }
            }
        };
        // Of two first sign-ins at once, one links; the other finds the account at its next try.
        repo::link(tx, user.id, issuer, subject, Some(&email), now).await?.ok_or(IdentityError::AccountExists)?;
        record_link(tx, user.id, provider, device, now).await?;
        Ok(user)
    }
}

/// What to call somebody: as the provider does, or by the first half of the address.
fn name(person: &Person, email: &str) -> FullName {
    let short = |text: &Option<String>| text.as_deref().map(|text| text.chars().take(100).collect::<String>());
    let (name, given, family) = (short(&person.name), short(&person.given_name), short(&person.family_name));
    let named = FullName::of(name.as_deref(), given.as_deref(), family.as_deref()).filter(FullName::is_short_enough);
    let local = email.split('@').next().unwrap_or(email);
    named.unwrap_or_else(|| FullName { name: local.chars().take(100).collect(), first: None, last: None })
}

async fn record_link(
    tx: &mut TenantTx,
    user: UserId,
    provider: &IdentityProvider,
    device: &Device,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let details = json!({ "provider": provider.name, "issuer": provider.issuer });
    let entry = Entry::on_user(user, "LINK_IDENTITY").by(user).from(device).with(details);
    audit::record_in_tx(tx, &entry, now).await
}
