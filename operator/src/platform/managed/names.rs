//! What the objects of a managed store are called. The names are CloudNativePG's where it has one for the same thing.

/// Role that owns the database; nobody signs in as it.
pub const OWNER: &str = "tenantry";
/// Roles that sign in and act as [`OWNER`]; one is in use, the other is the next.
pub const LOGINS: [&str; 2] = ["tenantry_a", "tenantry_b"];
/// The platform's database.
pub const DATABASE: &str = "tenantry";
pub const POSTGRES_PORT: u16 = 5432;
pub const REDIS_PORT: u16 = 6379;
/// Key of the access list in the Secret that Redis mounts.
pub const USERS_ACL: &str = "users.acl";

/// Value that a person changes to have the passwords replaced.
pub const ANNOTATION_ROTATE: &str = "tenantry.dev/rotate-credentials";
/// Marks the Jobs that set up roles and databases, with what they are for.
pub const LABEL_TASK: &str = "tenantry.dev/task";

/// A store of one Platform: the name of its StatefulSet or Cluster, and what the names of its Secrets begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Postgres,
    Redis,
}

impl Store {
    pub fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    pub fn name(self, platform: &str) -> String {
        format!("{platform}-{}", self.word())
    }

    /// The Service that takes writes.
    pub fn service(self, platform: &str) -> String {
        match self {
            Self::Postgres => format!("{platform}-postgres-rw"),
            Self::Redis => self.name(platform),
        }
    }

    /// What the API connects with.
    pub fn app(self, platform: &str) -> String {
        format!("{}-app", self.name(platform))
    }

    /// What the API is going to connect with, while a rotation is under way.
    pub fn rotation(self, platform: &str) -> String {
        format!("{}-rotation", self.name(platform))
    }
}

/// The superuser of the StatefulSet; that this Secret is there says that the StatefulSet holds the data.
pub fn superuser(platform: &str) -> String {
    format!("{platform}-postgres-superuser")
}

/// The owner of the database of a Cluster; that this Secret is there says that CloudNativePG holds the data.
pub fn owner(platform: &str) -> String {
    format!("{platform}-postgres-owner")
}

/// The passwords that Redis takes, as hashes.
pub fn users(platform: &str) -> String {
    format!("{platform}-redis-users")
}

/// CronJob, volume, ScheduledBackup.
pub fn backup(platform: &str) -> String {
    format!("{platform}-postgres-backup")
}
