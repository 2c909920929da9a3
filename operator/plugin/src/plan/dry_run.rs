//! What the objects would be: asked of the cluster by way of kubectl, whose apply it will be.

use std::{ffi::OsString, process::Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::{cli, connect::Connection};

pub async fn apply(connection: &Connection, asked: &cli::Plan) -> Result<Vec<Value>> {
    if asked.files.is_empty() && asked.kustomize.is_none() {
        return Ok(Vec::new());
    }
    let mut args: Vec<OsString> = connection.kubectl.clone();
    args.extend(["apply", "--dry-run=server", "--output=json"].map(OsString::from));
    for file in &asked.files {
        args.extend(["-f".into(), file.into()]);
    }
    if let Some(folder) = &asked.kustomize {
        args.extend(["-k".into(), folder.into()]);
    }
    if asked.recursive {
        args.push("--recursive".into());
    }
    if asked.server_side {
        args.push("--server-side".into());
    }
    if asked.force_conflicts {
        args.push("--force-conflicts".into());
    }
    let mut command = Command::new("kubectl");
    command.args(args).stdin(Stdio::inherit()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.output().await.context("plan needs kubectl on the PATH, for the dry run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("this would be refused:\n{}", said.trim());
    }
    // Warnings of the cluster, and of kubectl.
    eprint!("{said}");
    read(&output.stdout)
}

/// One object, or a list of them.
fn read(text: &[u8]) -> Result<Vec<Value>> {
    let objects: Value = serde_json::from_slice(text).context("kubectl's answer is no JSON")?;
    Ok(match objects {
        Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
            list.remove("items").and_then(|items| items.as_array().cloned()).unwrap_or_default()
        }
        one => vec![one],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubectl_answers_with_one_object_or_with_a_list() {
        assert_eq!(read(br#"{"kind": "Tenant"}"#).unwrap().len(), 1);
        assert_eq!(read(br#"{"kind": "List", "items": [{"kind": "Tenant"}, {"kind": "Secret"}]}"#).unwrap().len(), 2);
    }
}
