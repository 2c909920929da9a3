//! A report as a person reads it.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    TOLD,
    report::{PlatformReport, Problem, Report, TenantReport, Unwell},
};
use crate::output::{Paint, age, wrapped};

impl Report {
    pub fn human(&self, now: Timestamp, paint: Paint) -> String {
        let platforms = self.platforms.iter().map(|platform| platform.human(paint));
        let tenants = self.tenants.iter().map(|tenant| tenant.human(paint));
        let mut text = platforms.chain(tenants).collect::<Vec<_>>().join("\n");
        if !self.warnings.is_empty() {
            let _ = write!(text, "\n{}\n", paint.head("Recent warnings"));
            for warning in &self.warnings {
                let head = format!("{} ago, {}: {}", age(warning.time, now), warning.object, warning.reason);
                let _ = write!(text, "  {}\n{}", paint.warn(head), wrapped(&warning.message, 4));
            }
        }
        text
    }
}

fn list(problems: &[Problem], indent: usize, paint: Paint) -> String {
    let blank = " ".repeat(indent);
    let each = problems.iter().map(|Problem { type_, status, reason, message }| {
        format!("{blank}{}\n{}", paint.bad(format!("{type_}={status} {reason}")), wrapped(message, indent + 2))
    });
    each.collect()
}

impl PlatformReport {
    fn human(&self, paint: Paint) -> String {
        let word = match (self.well, self.problems.is_empty()) {
            (true, true) => paint.good("well"),
            (true, false) => paint.warn("works, and not all of it as declared"),
            (false, _) => paint.bad("not well"),
        };
        let mut text =
            format!("{} (namespace {}): {word}\n", paint.head(format!("Platform {}", self.name)), self.namespace);
        text += &list(&self.problems, 2, paint);
        let release = match (&self.active_release, &self.active_color) {
            (Some(release), Some(color)) => format!("{release} ({color}), "),
            (Some(release), None) => format!("{release}, "),
            (None, Some(color)) => format!("{color}, "),
            (None, None) => String::new(),
        };
        let mut line = |name: &str, value: &str| {
            let lines = wrapped(value, 14);
            let _ = write!(text, "  {name:<12}{}", lines.trim_start());
        };
        line("active", &format!("{release}{} of {} replicas", self.replicas, self.wanted_replicas));
        if let Some(preview) = &self.preview_release {
            line("preview", preview);
        }
        line("rollout", &self.rollout);
        line("PostgreSQL", &self.postgres);
        line("Redis", &self.redis);
        if let Some(url) = &self.url {
            line("address", url);
        }
        let well = self.tenants.saturating_sub(self.unwell_tenants.len());
        line("tenants", &format!("{well} of {} well", self.tenants));
        for Unwell { name, reason, message } in self.unwell_tenants.iter().take(TOLD) {
            let _ = write!(text, "    {}\n{}", paint.bad(format!("{name}: {reason}")), wrapped(message, 6));
        }
        match self.unwell_tenants.len().checked_sub(TOLD) {
            Some(more) if more > 0 => {
                let _ = writeln!(text, "    and {more} more: kubectl tenantry status tenant");
            }
            _ => {}
        }
        text
    }
}

impl TenantReport {
    fn human(&self, paint: Paint) -> String {
        let word = if self.well { paint.good("well") } else { paint.bad("not well") };
        let mut text =
            format!("{} (namespace {}): {word}\n", paint.head(format!("Tenant {}", self.name)), self.namespace);
        text += &list(&self.problems, 2, paint);
        let mut line = |name: &str, value: &str| {
            let _ = write!(text, "  {name:<12}{}", wrapped(value, 14).trim_start());
        };
        line("hostnames", if self.hostnames.is_empty() { "none".into() } else { self.hostnames.join(", ") }.as_str());
        line("plan", &self.plan);
        match &self.revision {
            Some(revision) => {
                line(
                    "revision",
                    &format!("{revision} on {} of {} replicas", self.loaded_replicas, self.ready_replicas),
                );
            }
            None => line("revision", "none yet"),
        }
        if let Some(key) = &self.signing_key {
            line("signing key", key);
        }
        for (object, problem) in &self.objects {
            match problem {
                None => {
                    let _ = writeln!(text, "  {} {object}", paint.good("ok"));
                }
                Some(problem) => {
                    let _ = write!(
                        text,
                        "  {} {object}\n{}",
                        paint.bad("--"),
                        list(std::slice::from_ref(problem), 5, paint)
                    );
                }
            }
        }
        text
    }
}
