//! The Redis scripts of the build under test, so that a proxy can tell one step of the protocol from another.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use footfall_sandbox::Message;

/// The SHA-1 of each script by its name in lower case: a process sends nothing else of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scripts(BTreeMap<String, String>);

impl Scripts {
    /// Asks the tool beside the services, which has the same scripts compiled in as they have.
    pub(crate) fn of(binaries: &Path) -> anyhow::Result<Self> {
        let tool = binaries.join("footfall");
        let output = Command::new(&tool)
            .args(["drill", "--scripts"])
            .output()
            .with_context(|| format!("{} did not start", tool.display()))?;
        ensure!(output.status.success(), "{} drill --scripts: {}", tool.display(), output.status);
        Self::parse(&String::from_utf8_lossy(&output.stdout))
    }

    /// Reads lines of a name, a space and a SHA-1.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let scripts = text
            .lines()
            .map(|line| {
                let (name, sha) = line.split_once(' ').with_context(|| format!("not a name and a SHA-1: {line:?}"))?;
                Ok((name.to_lowercase(), sha.trim().to_lowercase()))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self(scripts))
    }

    /// Whether a message runs the script of that name.
    ///
    /// # Panics
    ///
    /// If this build has no such script: then the fault that asks for it has to be looked at.
    pub(crate) fn runs(&self, name: &str) -> impl Fn(&Message) -> bool + Clone + Send + use<> {
        let sha = self.0.get(name).unwrap_or_else(|| panic!("there is no script {name:?}")).clone();
        move |message| message.is_redis("EVALSHA") && message.argument(1).eq_ignore_ascii_case(sha.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_its_sum() {
        let scripts = Scripts::parse("apply 00ab\nACK 00cd\n").expect("well formed");
        let message = |sha: &str| Message::Redis(vec![b"EVALSHA".to_vec(), sha.into(), b"1".to_vec()]);
        let is_ack = scripts.runs("ack");
        assert!(is_ack(&message("00CD")));
        assert!(!is_ack(&message("00ab")));
        assert!(!is_ack(&Message::Redis(vec![b"GET".to_vec(), b"00cd".to_vec()])));
        assert!(Scripts::parse("nonsense").is_err());
    }
}
