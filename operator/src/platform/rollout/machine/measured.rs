//! The analysis, as far as the machine has to do with it.

use crds::platform::{AnalysisStatus, Color};

use super::{
    super::analysis::{self, Judgement},
    Machine,
};

impl Machine<'_> {
    pub(super) fn count(&mut self) {
        for measured in &self.input.measured {
            let Some(plan) = &self.input.rollout.analysis else { return };
            analysis::count(plan, &mut self.record.rollout.analysis, measured, self.now);
        }
    }

    /// Begins the analysis of this release, or goes on with it, and says how it stands.
    pub(super) fn judge(&mut self, release: &str, color: Color, promoted: bool) -> Judgement {
        let Some(plan) = &self.input.rollout.analysis else { return Judgement::Passed };
        let status = &mut self.record.rollout.analysis;
        if status.as_ref().is_none_or(|status| status.revision != release || status.promoted != promoted) {
            *status = Some(AnalysisStatus { revision: release.into(), promoted, metrics: Vec::new() });
        }
        let Some(status) = status else { return Judgement::Running(String::new()) };
        let judgement = analysis::judge(plan, status);
        if promoted || matches!(judgement, Judgement::Running(_)) {
            let (due, next) = analysis::due(plan, status, self.now);
            self.subject = Some((release.into(), color));
            self.due = due;
            if let Some(next) = next {
                self.look_at(next);
            }
        }
        judgement
    }

    pub(super) fn answered(&self, release: &str) -> u32 {
        let status = self.record.rollout.analysis.as_ref().filter(|status| status.revision == release);
        status.map_or(0, |status| status.metrics.iter().map(|metric| metric.passed + metric.failed).sum())
    }
}
