//! Condition types and reasons: the words of every status, so that code, documentation and alerts spell them alike.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The roll-up that people wait for: everything below is well for the current generation.
pub const READY: &str = "Ready";
/// The spec makes sense and conflicts with nothing older.
pub const ACCEPTED: &str = "Accepted";
/// Everything that the spec refers to exists and can be used.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// Every ready replica of the API serves this generation.
pub const PROGRAMMED: &str = "Programmed";
/// The tenant's database exists and is migrated.
pub const DATABASE_READY: &str = "DatabaseReady";
/// The tenant is refused on purpose (`spec.suspended`).
pub const SUSPENDED: &str = "Suspended";
/// The binding's `expiresAt` has passed.
pub const EXPIRED: &str = "Expired";
/// The payment provider answered to these credentials.
pub const CREDENTIALS_VERIFIED: &str = "CredentialsVerified";
/// Enough replicas of the API answer.
pub const AVAILABLE: &str = "Available";
/// A rollout is under way.
pub const PROGRESSING: &str = "Progressing";
/// Rollouts are held (`spec.paused`).
pub const PAUSED: &str = "Paused";
pub const POSTGRES_READY: &str = "PostgresReady";
pub const REDIS_READY: &str = "RedisReady";
/// Requests from outside find their way, as far as the one that was asked to route them says.
pub const ROUTED: &str = "Routed";
/// It works, but not as declared; the message says what is missing.
pub const DEGRADED: &str = "Degraded";

/// The conditions of each kind, all of which are present from the first visit on.
pub mod of {
    use super::{
        ACCEPTED, AVAILABLE, CREDENTIALS_VERIFIED, DATABASE_READY, DEGRADED, EXPIRED, PAUSED, POSTGRES_READY,
        PROGRAMMED, PROGRESSING, READY, REDIS_READY, RESOLVED_REFS, ROUTED, SUSPENDED,
    };

    pub const PLATFORM: &[&str] =
        &[READY, AVAILABLE, PROGRESSING, PAUSED, POSTGRES_READY, REDIS_READY, ROUTED, DEGRADED];
    pub const TENANT: &[&str] = &[READY, ACCEPTED, RESOLVED_REFS, DATABASE_READY, PROGRAMMED, SUSPENDED];
    pub const ROLE_BINDING: &[&str] = &[READY, ACCEPTED, RESOLVED_REFS, PROGRAMMED, EXPIRED];
    pub const PAYMENT_PROVIDER: &[&str] = &[READY, ACCEPTED, RESOLVED_REFS, CREDENTIALS_VERIFIED, PROGRAMMED];
    pub const RATE_LIMIT_POLICY: &[&str] = &[READY, ACCEPTED, PROGRAMMED];
}

/// Reasons, as CamelCase words that a person may search for.
pub mod reasons {
    /// Nothing is wrong; the reason of `Ready=True`.
    pub const READY: &str = "Ready";
    /// This generation has not been worked through yet.
    pub const RECONCILING: &str = "Reconciling";
    pub const ACCEPTED: &str = "Accepted";
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    pub const PROGRAMMED: &str = "Programmed";
    /// Some replicas serve it, not all.
    pub const PARTIALLY_PROGRAMMED: &str = "PartiallyProgrammed";
    /// A replica refused the configuration and serves the one before.
    pub const REJECTED_BY_REPLICA: &str = "RejectedByReplica";
    pub const NO_READY_REPLICAS: &str = "NoReadyReplicas";
    /// The object cannot be read as its kind; it was stored while the CRD was another.
    pub const MALFORMED: &str = "Malformed";
    pub const INVALID: &str = "Invalid";
    /// An older object holds what this one asks for.
    pub const CONFLICTED: &str = "Conflicted";
    /// The spec needs mail, and the Platform names no mail server.
    pub const MAIL_NOT_CONFIGURED: &str = "MailNotConfigured";
    /// A policy of higher rank decides instead.
    pub const OVERRIDDEN: &str = "Overridden";
    pub const PLATFORM_NOT_FOUND: &str = "PlatformNotFound";
    /// `platformRef` is left out and the namespace has more than one Platform.
    pub const PLATFORM_AMBIGUOUS: &str = "PlatformAmbiguous";
    pub const TENANT_NOT_FOUND: &str = "TenantNotFound";
    pub const TARGET_NOT_FOUND: &str = "TargetNotFound";
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    pub const SECRET_KEY_NOT_FOUND: &str = "SecretKeyNotFound";
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// A live key in a test provider, or the reverse.
    pub const MODE_MISMATCH: &str = "ModeMismatch";
    /// Of an event: another key signs the tenant's access tokens.
    pub const SIGNING_KEY_ROTATED: &str = "SigningKeyRotated";
    pub const UNAUTHORIZED: &str = "Unauthorized";
    pub const RATE_LIMITED: &str = "RateLimited";
    /// Not asked, because nothing that can answer is there yet.
    pub const NOT_VERIFIED: &str = "NotVerified";
    pub const SUSPENDED: &str = "Suspended";
    pub const ACTIVE: &str = "Active";
    pub const EXPIRED: &str = "Expired";
    pub const NOT_EXPIRED: &str = "NotExpired";
    pub const DISABLED: &str = "Disabled";
    pub const DELETING: &str = "Deleting";
    pub const AVAILABLE: &str = "Available";
    pub const UNAVAILABLE: &str = "Unavailable";
    pub const ROLLING_OUT: &str = "RollingOut";
    pub const ROLLED_OUT: &str = "RolledOut";
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    pub const MIGRATING: &str = "Migrating";
    pub const MIGRATION_FAILED: &str = "MigrationFailed";
    /// Green's pods start, or do not hold every tenant's newest configuration yet.
    pub const STARTING: &str = "Starting";
    /// Prometheus is asked about green.
    pub const ANALYZING: &str = "Analyzing";
    /// Green is well and waits for its time, or for a person.
    pub const AWAITING_PROMOTION: &str = "AwaitingPromotion";
    /// Green grows to the size of blue and takes over.
    pub const PROMOTING: &str = "Promoting";
    /// Green has taken over and blue is still there.
    pub const PROMOTED: &str = "Promoted";
    /// A person ended the rollout; the stable release runs instead of the declared one.
    pub const ABORTED: &str = "Aborted";
    /// The rollout failed; the stable release runs instead of the declared one.
    pub const ROLLED_BACK: &str = "RolledBack";
    /// A person went back to an earlier release.
    pub const UNDONE: &str = "Undone";
    /// Reasons of events: a command of the annotation `tenantry.dev/rollout`.
    pub const COMMAND: &str = "RolloutCommand";
    pub const COMMAND_REFUSED: &str = "RolloutCommandRefused";
    pub const PAUSED: &str = "Paused";
    pub const NOT_PAUSED: &str = "NotPaused";
    /// A kind of another operator (such as CloudNativePG's Cluster) is not installed.
    pub const DEPENDENCY_MISSING: &str = "DependencyMissing";
    /// A managed PostgreSQL or Redis takes connections.
    pub const RUNNING: &str = "Running";
    /// It runs, in one instance: what happens to that happens to it.
    pub const SINGLE_INSTANCE: &str = "SingleInstance";
    /// A Job that sets up roles and databases did not succeed.
    pub const SETUP_FAILED: &str = "SetupFailed";
    /// The cluster refuses what a managed PostgreSQL or Redis needs; its own words are in the message.
    pub const REFUSED: &str = "Refused";
    pub const UNREACHABLE: &str = "Unreachable";
    /// Nothing outside of the cluster was asked to route to it.
    pub const SERVICE_ONLY: &str = "ServiceOnly";
    pub const ROUTED: &str = "Routed";
    /// There is no hostname to route yet.
    pub const NO_HOSTNAMES: &str = "NoHostnames";
    /// A Gateway refuses the route, or has not looked at it yet.
    pub const ROUTE_NOT_ACCEPTED: &str = "RouteNotAccepted";
    /// The autoscaler cannot measure, or cannot act.
    pub const AUTOSCALER_INACTIVE: &str = "AutoscalerInactive";
    pub const AS_DECLARED: &str = "AsDeclared";
    /// The spec asks for what this version cannot do.
    pub const NOT_SUPPORTED: &str = "NotSupported";
}

/// The condition of this type, if the status has it.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of this type says so of this generation; a verdict about an older one does not count.
pub fn is_true(conditions: &[Condition], type_: &str, generation: Option<i64>) -> bool {
    find(conditions, type_)
        .is_some_and(|condition| condition.status == "True" && condition.observed_generation == generation)
}
