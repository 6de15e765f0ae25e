//! The steps of the bundle chain that have led the node to where it stands: it can show them to a server that has forgotten them.
//!
//! Invariant: nothing is decided by this file: a step says by itself who has signed it, and the node stands where its pin says.

use base64::Engine as _;
use landfast_identity::chain::SignedStep;
use serde::{Deserialize, Serialize};

use super::{BASE64, NodeFiles, PersistError, VERSION, Versioned};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepsFile {
    version: u32,
    steps: Vec<String>,
}

impl Versioned for StepsFile {
    fn version(&self) -> u32 {
        self.version
    }
}

impl NodeFiles {
    /// In the order of the chain. None are there before the first walk.
    pub(crate) fn steps(&self) -> Result<Vec<SignedStep>, PersistError> {
        let Some(bytes) = self.read(STEPS)? else {
            return Ok(Vec::new());
        };
        let file: StepsFile = self.parse(STEPS, &bytes)?;
        let read = |step: &String| SignedStep::from_bytes(&BASE64.decode(step).ok()?).ok();
        let steps = file.steps.iter().map(read);
        steps
            .collect::<Option<_>>()
            .ok_or_else(|| self.damaged(STEPS, "a step cannot be read"))
    }

    pub(crate) fn save_steps(&self, steps: &[SignedStep]) -> Result<(), PersistError> {
        let file = StepsFile {
            version: VERSION,
            steps: steps.iter().map(|step| BASE64.encode(step.to_bytes())).collect(),
        };
        self.write(STEPS, &file)
    }
}

pub(crate) const STEPS: &str = "root-steps.json";
