//! Who is who: which colour takes the requests, which release is to run, and what could run instead.

use crds::platform::Color;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Machine, Pods};

impl<'a> Machine<'a> {
    pub(super) fn pods(&self, color: Color) -> Option<&'a Pods> {
        match color {
            Color::Blue => self.input.blue.as_ref(),
            Color::Green => self.input.green.as_ref(),
        }
    }

    pub(super) fn release(&self, color: Color) -> Option<&'a str> {
        self.pods(color).map(|pods| pods.release.as_str())
    }

    pub(super) fn active_release(&self) -> Option<&'a str> {
        self.active.and_then(|color| self.release(color))
    }

    pub(super) fn is_stable(&self, release: &str) -> bool {
        self.record.stable.as_deref() == Some(release)
    }

    /// The Service tells. A selection that nobody could serve is somebody's mistake and is put back.
    pub(super) fn see_who_is_active(&mut self) {
        let known = self.record.active;
        self.active = match self.input.selected {
            Some(color) if known.is_none_or(|known| known == color) => Some(color),
            Some(color) if self.pods(color).is_some_and(|pods| self.could_serve(pods)) => Some(color),
            _ => known,
        };
        if self.active != known {
            // The first colour at all has nobody to take over from.
            if known.is_some() || self.input.uncolored {
                self.record.rollout.switched_time = Some(Time(self.now));
                self.record.rollout.progressed_time = Some(Time(self.now));
            }
            self.record.rollout.approved_revision = None;
            self.record.preview = None;
            self.record.active = self.active;
        }
    }

    /// Complete, and more than nothing unless nothing is wished for.
    pub(super) fn could_serve(&self, pods: &Pods) -> bool {
        pods.full() && (pods.wanted > 0 || self.input.replicas == 0)
    }

    /// Whether the stable release, in the other colour, is better than what takes the requests now.
    pub(super) fn can_take_back(&self, old: &Pods) -> bool {
        let dead = self.active.and_then(|color| self.pods(color)).is_none_or(|pods| pods.available == 0);
        self.could_serve(old) || (dead && old.only && old.ready > 0)
    }

    /// The release that is to run: the declared one, or what runs instead of it.
    pub(super) fn target(&self) -> Option<String> {
        let declared = self.input.declared.as_ref()?;
        let instead = self.record.rollout.instead.as_ref();
        Some(instead.map_or_else(|| declared.clone(), |instead| instead.revision.clone()))
    }

    /// The size of a colour that takes the requests, or is about to.
    pub(super) fn full_size(&self) -> u32 {
        let current = self.active.and_then(|color| self.pods(color)).map_or(0, |pods| pods.wanted);
        // Not lowered at the switch, whatever the autoscaler does meanwhile.
        self.input.replicas.max(current)
    }

    pub(super) fn can_run(&self, release: &str) -> bool {
        self.input.kept.iter().any(|kept| kept == release)
    }

    pub(super) fn runs_somewhere(&self, release: &str) -> bool {
        Color::ALL.iter().any(|color| self.release(*color) == Some(release))
    }

    /// Whether there is a colour that one could go back to at once.
    pub(super) fn in_window(&self) -> bool {
        self.record.rollout.switched_time.is_some()
            && self.active_release().is_some_and(|release| !self.is_stable(release))
    }

    /// Whether a pod of this try has a trouble that does not pass by itself.
    pub(super) fn is_fatal(&self, pods: &Pods) -> bool {
        let began = self.record.rollout.started_time.as_ref().map(|time| time.0);
        pods.trouble.as_ref().is_some_and(|trouble| trouble.fatal && began.is_none_or(|began| trouble.since >= began))
    }
}
