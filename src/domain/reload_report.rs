//! The result of a reload, for those who asked for it.

/// What a reload has applied, and what not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// Whether everything was kept as it was, because of faults in the files of the home.
    pub has_kept_all: bool,
    /// What was not applied, a line each.
    pub faults: Vec<String>,
    /// What is valid, but probably not intended, a line each.
    pub warnings: Vec<String>,
}

impl ReloadReport {
    /// Returns why the reload is not a success, in one line; `None` if everything was applied.
    pub fn summary(&self) -> Option<String> {
        let what = match (self.has_kept_all, self.faults.len()) {
            (false, 0) => return None,
            (true, _) => "the running server keeps all of the old accounts",
            (false, 1) => "the running server has applied everything but one grant",
            (false, _) => "the running server has applied everything but some grants",
        };
        match &self.faults[..] {
            [fault] => Some(format!("{what}: {fault}")),
            [] => Some(what.into()),
            [fault, others @ ..] => Some(format!("{what}: {fault} (and {} more)", others.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_names_the_first_fault() {
        let report = |has_kept_all, faults: &[&str]| {
            let faults = faults.iter().map(|fault| (*fault).to_owned()).collect();
            let warnings = vec!["w".to_owned()];
            ReloadReport {
                has_kept_all,
                faults,
                warnings,
            }
            .summary()
        };
        assert_eq!(report(false, &[]), None);
        assert_eq!(
            report(true, &["a:1: b"]).unwrap(),
            "the running server keeps all of the old accounts: a:1: b"
        );
        assert_eq!(
            report(false, &["a", "b", "c"]).unwrap(),
            "the running server has applied everything but some grants: a (and 2 more)"
        );
    }
}
