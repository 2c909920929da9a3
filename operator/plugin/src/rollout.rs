//! Where a rollout is, and its levers. Commands are the annotation `tenantry.dev/rollout`, which the operator carries out,
//! answers in the status and removes; a pause is `spec.paused`.

use std::fmt::Write as _;
use std::{cell::RefCell, time::Duration};

use anyhow::{Context, Result, bail};
use crds::Platform;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    Outcome,
    cli::{self, Act},
    connect::Connection,
    output::{Output, Paint, Shown, table, wrapped},
    watching,
};

/// Who changed it, in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "kubectl-tenantry";
const ANNOTATION: &str = "tenantry.dev/rollout";
/// How long the operator may take to answer a command.
const ANSWER: Duration = Duration::from_secs(30);

pub async fn run(connection: &Connection, asked: &cli::Rollout, out: Output) -> Result<Outcome> {
    let platform = connection.platform(asked.platform.as_deref()).await?;
    let name = platform.name_any();
    let command = match &asked.act {
        Act::Status { watch } => return status(connection, &name, *watch, asked.timeout, out).await,
        Act::Pause | Act::Resume => {
            let paused = matches!(asked.act, Act::Pause);
            if platform.spec.paused == paused {
                let word = if paused { "held already" } else { "not held" };
                out.say(format!("platform/{name}: rollouts are {word}"))?;
                return Ok(Outcome::Good);
            }
            patch(connection, &name, json!({"spec": {"paused": paused}})).await?;
            let word = if paused { "held: kubectl tenantry rollout resume lets them go on" } else { "going on" };
            out.say(format!("platform/{name}: rollouts are {word}"))?;
            return Ok(Outcome::Good);
        }
        Act::Promote => "promote".to_owned(),
        Act::Abort => "abort".to_owned(),
        Act::Retry => "retry".to_owned(),
        Act::Undo { to: None } => "undo".to_owned(),
        Act::Undo { to: Some(release) } => format!("undo:{release}"),
    };
    let before = View::of(connection, &name).await?;
    patch(connection, &name, json!({"metadata": {"annotations": {ANNOTATION: command}}})).await?;
    let answer = watching::until(dynamic(connection), &name, Some(asked.timeout.unwrap_or(ANSWER)), |object| {
        let view = View::read(object);
        let answered = view.command.clone().filter(|answer| answer.value == command && view.command != before.command);
        Ok(answered)
    });
    match answer.await? {
        Some(Answer { message, refused, .. }) => {
            let message = if message.is_empty() { command } else { message };
            out.say(format!("platform/{name}: {message}"))?;
            Ok(if refused { Outcome::No } else { Outcome::Good })
        }
        None => bail!(
            "platform/{name} was told to {command}, and the operator has not answered in time: see whether it runs, and \
             kubectl tenantry rollout status"
        ),
    }
}

/// The Platform as it is stored: an operator of another version may say more than this program knows.
pub fn dynamic(connection: &Connection) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<Platform>(&());
    Api::namespaced_with(connection.client.clone(), &connection.namespace, &kind)
}

async fn patch(connection: &Connection, name: &str, patch: Value) -> Result<()> {
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
    let done = connection.api::<Platform>().patch(name, &params, &Patch::Merge(patch)).await;
    done.map(drop).with_context(|| format!("cannot change platform/{name}"))
}

/// A rollout, from the Platform's spec and status.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct View {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub strategy: String,
    pub paused: bool,
    /// The operator has not seen the newest spec yet.
    pub behind: bool,
    /// The database could not be migrated: nothing goes on until a person did something about it.
    pub migration_failed: bool,
    pub phase: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_color: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared_revision: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted_revision: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Answer>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Analysis {
    pub revision: String,
    pub metrics: Vec<Measured>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Measured {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    pub verdict: String,
    pub message: String,
    pub passed: u32,
    pub failed: u32,
    pub inconclusive: u32,
}

/// What the operator made of a command.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Answer {
    pub value: String,
    pub message: String,
    pub refused: bool,
    pub time: String,
}

/// How a rollout stands, for an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Done,
    UnderWay,
    /// Taken back, or come to a halt that only a person can end.
    Failed,
}

impl View {
    pub async fn of(connection: &Connection, name: &str) -> Result<Self> {
        let platform = dynamic(connection).get(name).await.with_context(|| format!("cannot read platform/{name}"))?;
        Ok(Self::read(&platform))
    }

    pub fn read(platform: &DynamicObject) -> Self {
        let (spec, status) = (&platform.data["spec"], &platform.data["status"]);
        let mut view: Self = serde_json::from_value(status["rollout"].clone()).unwrap_or_default();
        let text = |value: &Value| value.as_str().map(str::to_owned);
        view.platform = platform.name_any();
        view.strategy = text(&spec["rollout"]["strategy"]).unwrap_or_default();
        view.paused = spec["paused"] == json!(true);
        view.behind = status["observedGeneration"].as_i64() != platform.metadata.generation;
        view.migration_failed = status["conditions"].as_array().into_iter().flatten().any(|condition| {
            (&condition["type"], &condition["reason"]) == (&json!("Progressing"), &json!("MigrationFailed"))
        });
        view.active_color = text(&status["activeColor"]);
        view.active_revision = text(&status["activeRevision"]);
        view.preview_revision = text(&status["previewRevision"]);
        view.stable_revision = text(&status["stableRevision"]);
        view
    }

    pub fn standing(&self) -> Standing {
        match self.phase.as_str() {
            _ if self.behind => Standing::UnderWay,
            _ if self.migration_failed => Standing::Failed,
            "Aborted" | "RolledBack" | "Undone" => Standing::Failed,
            // The new release takes the requests; the old one is only kept for a while.
            "Idle" | "Promoted" | "" => Standing::Done,
            _ => Standing::UnderWay,
        }
    }

    /// In a few words.
    pub fn line(&self) -> String {
        let phase = match self.phase.as_str() {
            "" => "nothing is known yet",
            "Idle" => "none under way",
            phase => phase,
        };
        let held = if self.paused { " (held by spec.paused)" } else { "" };
        let why =
            if self.phase == "Idle" || self.message.is_empty() { String::new() } else { format!(": {}", self.message) };
        format!("{phase}{held}{why}")
    }
}

impl Shown for View {
    fn human(&self, paint: Paint) -> String {
        let phase = match self.standing() {
            Standing::Done => paint.good(self.line()),
            Standing::UnderWay => paint.warn(self.line()),
            Standing::Failed => paint.bad(self.line()),
        };
        let mut text = wrapped(&format!("platform/{}: {phase}", self.platform), 0);
        if self.behind {
            text += "  the operator has not seen the newest spec yet\n";
        }
        let color = self.active_color.as_ref().map_or_else(String::new, |color| format!(" ({color})"));
        for (name, release) in [
            ("active", self.active_revision.as_ref().map(|active| format!("{active}{color}"))),
            ("preview", self.preview_revision.clone().filter(|preview| Some(preview) != self.active_revision.as_ref())),
            ("stable", self.stable_revision.clone()),
            ("declared", self.declared_revision.clone()),
            ("taken back", self.aborted_revision.clone()),
            ("history", Some(self.history.join(", ")).filter(|history| !history.is_empty())),
        ] {
            if let Some(release) = release {
                let _ = write!(text, "  {name:<12}{}", wrapped(&release, 14).trim_start());
            }
        }
        if let Some(Analysis { metrics, .. }) = self.analysis.as_ref().filter(|analysis| !analysis.metrics.is_empty()) {
            let rows: Vec<_> = metrics
                .iter()
                .map(|m| {
                    let counts = format!("{} passed, {} failed, {} inconclusive", m.passed, m.failed, m.inconclusive);
                    vec![m.name.clone(), m.value.clone().unwrap_or_else(|| "-".into()), m.verdict.clone(), counts]
                })
                .collect();
            text += &table(&["METRIC", "VALUE", "VERDICT", "MEASURED"], &rows, 2);
            for metric in metrics.iter().filter(|metric| metric.verdict != "Pass" && !metric.message.is_empty()) {
                text += &wrapped(&format!("{}: {}", metric.name, metric.message), 4);
            }
        }
        text
    }
}

async fn status(
    connection: &Connection,
    name: &str,
    watch: bool,
    patience: Option<Duration>,
    out: Output,
) -> Result<Outcome> {
    let outcome = |standing| match standing {
        Standing::Done => Outcome::Good,
        Standing::UnderWay => Outcome::Unwell,
        Standing::Failed => Outcome::No,
    };
    if !watch {
        let view = View::of(connection, name).await?;
        out.print(&view)?;
        return Ok(outcome(view.standing()));
    }
    let told = RefCell::new(None);
    let ended = watching::until(dynamic(connection), name, patience, |object| {
        let view = View::read(object);
        // Programs read the end only; people every step.
        let line = view.line();
        if out.format.is_none() && told.borrow().as_ref() != Some(&line) {
            out.say(format!("platform/{name}: {line}"))?;
            told.replace(Some(line));
        }
        Ok((view.standing() != Standing::UnderWay).then_some(view))
    })
    .await?;
    match ended {
        Some(view) => {
            out.print(&view)?;
            Ok(outcome(view.standing()))
        }
        None => bail!("platform/{name}: the rollout has not come to its end in time; it goes on without being watched"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(phase: &str, observed: i64) -> DynamicObject {
        let object = json!({
            "apiVersion": "tenantry.dev/v1alpha1", "kind": "Platform",
            "metadata": {"name": "main", "namespace": "shop", "generation": 3},
            "spec": {"paused": false, "rollout": {"strategy": "BlueGreen"}},
            "status": {
                "observedGeneration": observed,
                "activeColor": "blue", "activeRevision": "1a2b3c4d5e", "previewRevision": "99aabbccdd",
                "stableRevision": "1a2b3c4d5e",
                "rollout": {
                    "phase": phase,
                    "message": "2 of 5 measurements of error-rate were made",
                    "declaredRevision": "99aabbccdd",
                    "history": ["1a2b3c4d5e", "0000000000"],
                    "aFieldOfALaterVersion": true,
                    "analysis": {"revision": "99aabbccdd", "promoted": false, "metrics": [
                        {"name": "error-rate", "value": "0.001", "verdict": "Pass", "message": "", "passed": 2},
                        {"name": "latency", "verdict": "Inconclusive", "message": "the query had no answer", "inconclusive": 2},
                    ]},
                },
            },
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_rollout_is_told_on_one_screen() {
        let text = View::read(&platform("Analyzing", 3)).human(Paint(false));
        for words in [
            "platform/main: Analyzing: 2 of 5 measurements",
            "1a2b3c4d5e (blue)",
            "METRIC",
            "latency: the query had no answer",
        ] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
    }

    #[test]
    fn an_exit_code_says_how_a_rollout_stands() {
        let standing = |phase, observed| View::read(&platform(phase, observed)).standing();
        assert_eq!(standing("Idle", 3), Standing::Done);
        assert_eq!(standing("Promoted", 3), Standing::Done);
        for phase in ["Migrating", "Starting", "Analyzing", "AwaitingPromotion", "Promoting"] {
            assert_eq!(standing(phase, 3), Standing::UnderWay, "{phase}");
        }
        for phase in ["Aborted", "RolledBack", "Undone"] {
            assert_eq!(standing(phase, 3), Standing::Failed, "{phase}");
        }
        assert_eq!(standing("Idle", 2), Standing::UnderWay, "what was applied just now has not been seen");
        let mut halted = platform("Migrating", 3);
        halted.data["status"]["conditions"] = json!([{"type": "Progressing", "status": "False", "reason": "MigrationFailed", "message": "Job main-migrate failed"}]);
        assert_eq!(View::read(&halted).standing(), Standing::Failed, "waiting would not help");
    }
}
