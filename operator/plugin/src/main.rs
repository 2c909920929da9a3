//! `kubectl tenantry`. As `kubectl_complete-tenantry` (a link to the same file) it answers kubectl's question for
//! completions.

use std::process::ExitCode;

use plugin::{
    cli, complete,
    output::{Failure, NobodyReads},
};

#[tokio::main]
async fn main() -> ExitCode {
    // Only the first caller installs it, and this is the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut args = std::env::args();
    let called = args.next().unwrap_or_default();
    if complete::is_called_as_completion(&called) {
        print!("{}", complete::answer(&args.collect::<Vec<_>>()).await);
        return ExitCode::SUCCESS;
    }
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match Box::pin(plugin::run(cli)).await {
        Ok(outcome) => outcome.into(),
        Err(error) if error.is::<NobodyReads>() => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", Failure(&error));
            ExitCode::FAILURE
        }
    }
}
