//! `kubectl tenantry`: what a platform engineer asks and does at a terminal.
//!
//! | room | answers |
//! |---|---|
//! | [`status`] | is it well, and if not, why |
//! | [`explain`], [`can_i`] | which roles and limits apply, and from which object |
//! | [`plan`] | what would an apply change |
//! | [`rollout`], [`rotate`] | the levers, and what became of them |
//! | [`logs`], [`report`] | what happened, for reading and for sending on |
//!
//! No rule lives here. What would be served is worked out by the operator's own pure steps (`operator::tenant`,
//! `operator::platform`), and what a binding or a limit means by the contract's, as the API follows them.

pub mod access;
pub mod can_i;
pub mod cli;
pub mod complete;
pub mod connect;
pub mod explain;
pub mod live;
pub mod logs;
pub mod output;
pub mod plan;
pub mod report;
pub mod rollout;
pub mod rotate;
pub mod status;
pub mod version;
pub mod watching;

use std::process::ExitCode;

use anyhow::Result;

use self::{
    cli::{Cli, Command},
    connect::Connection,
};

/// How a command ended, as its exit code says it. An error is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; yes; well; no change: 0.
    Good,
    /// No; taken back: 1.
    No,
    /// Something would change: 2, as `kubectl diff` has 1.
    Changes,
    /// Not well, or not yet: 3.
    Unwell,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Good => 0,
            Outcome::No => 1,
            Outcome::Changes => 2,
            Outcome::Unwell => 3,
        })
    }
}

/// Carries out one command.
pub async fn run(Cli { command, global }: Cli) -> Result<Outcome> {
    let out = output::Output::new(&global);
    if let Command::Completion(shell) = &command {
        return complete::scripts(shell);
    }
    if let Command::Version(asked) = &command {
        return version::run(asked, &global, out).await;
    }
    let connection = Connection::open(&global).await?;
    match command {
        Command::Status(asked) => status::run(&connection, &asked, out).await,
        Command::Explain(asked) => Box::pin(explain::run(&connection, &asked, out)).await,
        Command::CanI(asked) => can_i::run(&connection, &asked, out).await,
        Command::Plan(asked) => Box::pin(plan::run(&connection, &asked, out)).await,
        Command::Report(asked) => report::run(&connection, &asked, out).await,
        Command::Rollout(asked) => rollout::run(&connection, &asked, out).await,
        Command::Rotate(asked) => rotate::run(&connection, &asked, out).await,
        Command::Logs(asked) => logs::run(&connection, &asked, out).await,
        Command::Version(_) | Command::Completion(_) => Ok(Outcome::Good),
    }
}
