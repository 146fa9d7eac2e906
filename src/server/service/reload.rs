//! Reloads of the configuration.

use std::collections::HashSet;

use log::{error, info, warn};

use crate::config::Home;
use crate::config::reload::ReloadOutcome;
use crate::domain::reload_report::ReloadReport;
use crate::kernel::{Kernel, Milestone};
use crate::server::log::escape::Escaped;
use crate::server::service::context::Context;
use crate::server::workers::job::{Job, Lane, Reload, Task};

/// The state of the reload, and the revocations that the sessions have not received yet.
#[derive(Default)]
pub(crate) struct Reloader {
    state: ReloadState,
    /// The users whose logins were revoked since the sessions were last updated; `None` if there
    /// was no reload since.
    revoked: Option<HashSet<String>>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ReloadState {
    #[default]
    Idle,
    /// A worker reads the configuration.
    Running,
    /// The same, and another reload was requested meanwhile.
    RunningAndRequested,
}

impl Reloader {
    /// Starts a reload, or schedules it after the one in progress, so that the last request sees
    /// the latest files.
    pub(crate) fn request<K: Kernel>(&mut self, context: &Context<K>) {
        self.state = match self.state {
            ReloadState::Idle => {
                context.kernel.report(Milestone::Reloading);
                let task = Task::Reload(Reload {
                    home: context.home.clone(),
                    devices: context.devices.clone(),
                });
                context.workers.submit(Job::detached(Lane::Reload, task));
                ReloadState::Running
            }
            ReloadState::Running | ReloadState::RunningAndRequested => {
                ReloadState::RunningAndRequested
            }
        };
    }

    /// Takes the result of a reload; returns the new configuration if it is valid. Call
    /// [`Reloader::request_next`] once it is applied.
    pub(crate) fn finish<K: Kernel>(
        &mut self,
        outcome: ReloadOutcome,
        context: &Context<K>,
    ) -> Option<(Home, HashSet<String>)> {
        let mut report = ReloadReport::default();
        let home = match outcome.result {
            Ok((home, warnings)) => {
                report.warnings = warnings.iter().map(ToString::to_string).collect();
                report.faults = outcome.dropped.iter().map(ToString::to_string).collect();
                Some((home, outcome.revoked))
            }
            Err(faults) => {
                report.has_kept_all = true;
                report.faults = faults.iter().map(ToString::to_string).collect();
                None
            }
        };
        log_report(&report);
        // A supervisor waits for this even if the new configuration is invalid.
        context.kernel.report(Milestone::Ready);
        context.kernel.report_reload(&report);
        home
    }

    /// Ends the reload and starts the next one if it was requested.
    pub(crate) fn request_next<K: Kernel>(&mut self, context: &Context<K>) {
        let is_requested = self.state == ReloadState::RunningAndRequested;
        self.state = ReloadState::Idle;
        if is_requested {
            self.request(context);
        }
    }

    /// Records revoked users for [`Reloader::take_revoked`].
    pub(crate) fn record_revoked(&mut self, revoked: HashSet<String>) {
        // Two reloads may complete before the sessions are updated.
        self.revoked.get_or_insert_default().extend(revoked);
    }

    /// Returns the users whose logins were revoked since the last call; `None` without a reload.
    pub(crate) fn take_revoked(&mut self) -> Option<HashSet<String>> {
        self.revoked.take()
    }
}

fn log_report(report: &ReloadReport) {
    for warning in &report.warnings {
        warn!("event=reload warning={}", Escaped(warning));
    }
    let result = match report.has_kept_all {
        true => "kept-the-old",
        false => "grant-dropped",
    };
    for fault in &report.faults {
        error!("event=reload result={result} fault={}", Escaped(fault));
    }
    if !report.has_kept_all {
        info!("event=reload result=taken-up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::workers::job::JobResult;

    #[test]
    fn requests_during_a_reload_are_merged_into_one_more() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["Credentials", "Directories"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let home = Home::load(folder.path()).unwrap().0;
        let context = Context::for_tests(home);
        let mut reload = Reloader::default();
        for _ in 0..3 {
            reload.request(&context);
        }
        for expected in [1, 0] {
            assert_eq!(context.workers.queued(), 1);
            context.workers.run_nth(0);
            let mut results = Vec::new();
            context.workers.collect(&mut results);
            let Some(JobResult::Reloaded(reloaded)) = results.pop() else {
                panic!("no reload");
            };
            assert!(reload.finish(*reloaded, &context).is_some());
            reload.request_next(&context);
            assert_eq!(context.workers.queued(), expected);
        }
    }

    #[test]
    fn revoked_users_accumulate_until_they_are_taken() {
        let mut reload = Reloader::default();
        assert_eq!(reload.take_revoked(), None);
        reload.record_revoked(HashSet::from(["a".to_owned()]));
        reload.record_revoked(HashSet::from(["b".to_owned()]));
        assert_eq!(reload.take_revoked().map(|revoked| revoked.len()), Some(2));
        assert_eq!(reload.take_revoked(), None);
        reload.record_revoked(HashSet::new());
        assert_eq!(reload.take_revoked(), Some(HashSet::new()));
    }
}
