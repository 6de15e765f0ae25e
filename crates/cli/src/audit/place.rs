//! Where a ledger is: a directory, or a web server that has a copy. Invariant: nothing that is read from there is believed for being there.

use std::path::PathBuf;

use landfast_audit::verify::{DirSource, Source};

use super::http::{Base, HttpSource};
use crate::failure::Failure;

/// As it was given.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Dir(PathBuf),
    Web(Base),
}

/// The arguments that say where it is.
#[derive(clap::Args, Debug)]
pub(crate) struct Where {
    /// The directory of the ledger, or a copy: it has the file `checkpoint`; or the URL of such a directory on a web server.
    #[arg(value_name = "DIR|URL", value_parser = parse)]
    pub(super) ledger: Place,
    /// With an https URL: authorities of the web server's certificate, in PEM. Default: those of this system.
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
}

fn parse(text: &str) -> Result<Place, String> {
    match text.contains("://") {
        true => Base::parse(text).map(Place::Web),
        false => Ok(Place::Dir(PathBuf::from(text))),
    }
}

impl Where {
    pub(super) fn open(&self) -> Result<Box<dyn Source>, Failure> {
        match &self.ledger {
            Place::Dir(dir) => Ok(Box::new(DirSource::new(dir))),
            Place::Web(base) => {
                let source = HttpSource::new(base.clone(), self.ca_file.as_deref())?;
                Ok(Box::new(source))
            }
        }
    }

    /// For hints.
    pub(super) fn shown(&self) -> String {
        match &self.ledger {
            Place::Dir(dir) => dir.display().to_string(),
            Place::Web(base) => base.to_string(),
        }
    }
}
