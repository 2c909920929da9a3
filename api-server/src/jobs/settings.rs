//! What the jobs are told. The operator names the variables in the Jobs that it makes.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use uuid::Uuid;

use crate::settings::{Database, Log};

#[derive(Debug, Args)]
pub struct Job {
    #[command(subcommand)]
    pub name: JobName,
}

#[derive(Debug, Subcommand)]
pub enum JobName {
    /// Delete all of a tenant's data. Serving the tenant must have ended.
    PurgeTenant(PurgeTenant),
    /// Make the role and the database of DATABASE_URL where they are missing, and have the role take the password in it.
    ProvisionDatabase(ProvisionDatabase),
    /// Refuse a role from now on and end its sessions.
    RetireLogin(RetireLogin),
    /// Drop the database of DATABASE_URL and its role.
    DropDatabase(DropDatabase),
    /// Give a running Redis the passwords of an access list.
    SetRedisUsers(SetRedisUsers),
}

/// The one who may make roles and databases.
#[derive(Debug, Args)]
pub struct Admin {
    /// PostgreSQL, as postgres://…, of a role with CREATEROLE and CREATEDB.
    #[arg(long, env = "TENANTRY_ADMIN_DATABASE_URL", hide_env_values = true)]
    pub admin_database_url: String,
}

#[derive(Debug, Args)]
pub struct ProvisionDatabase {
    #[command(flatten)]
    pub admin: Admin,

    /// What is going to be connected with: its role, password and database are made.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,

    /// Role that owns the database, and that the other becomes a member of; the other itself when left out.
    #[arg(long)]
    pub owner: Option<String>,

    /// Bring the database to this version's schema as well.
    #[arg(long)]
    pub migrate: bool,

    #[command(flatten)]
    pub log: Log,
}

#[derive(Debug, Args)]
pub struct RetireLogin {
    #[command(flatten)]
    pub admin: Admin,

    /// The role.
    #[arg(long)]
    pub login: String,

    #[command(flatten)]
    pub log: Log,
}

#[derive(Debug, Args)]
pub struct DropDatabase {
    #[command(flatten)]
    pub admin: Admin,

    /// What was connected with.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,

    #[command(flatten)]
    pub log: Log,
}

#[derive(Debug, Args)]
pub struct SetRedisUsers {
    /// Redis, as redis://…, of a user who may change the access list.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: String,

    /// The access list: one line, `user <name> <rules>`.
    #[arg(long)]
    pub file: PathBuf,

    #[command(flatten)]
    pub log: Log,
}

#[derive(Debug, Args)]
pub struct PurgeTenant {
    /// Id of the tenant, as its status has it.
    #[arg(long)]
    pub tenant_id: Uuid,

    #[command(flatten)]
    pub database: Database,

    #[command(flatten)]
    pub log: Log,
}
