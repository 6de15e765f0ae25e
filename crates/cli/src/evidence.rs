//! `landfast evidence`: answers, reports and packs out of ledgers. Invariant: it speaks to nobody; what is wrong with a ledger is said beside every answer,
//! and makes it exit with 1.

mod ledgers;
mod packs;
mod shown;

use std::path::PathBuf;

use landfast_evidence::{Asked, Catalogue, Quality, by, gaps, who};
use serde_json::json;

use crate::cli::Globals;
use crate::failure::Failure;
use crate::{inspect, output, wire};
use ledgers::{From, Opened};

#[derive(clap::Subcommand, Debug)]
pub(crate) enum EvidenceCommand {
    /// Who had access to something at a moment, by which rule and whose approval [local file].
    Who {
        /// A SPIFFE ID, one and /*, the last part of its path (plc-7), an entry's ID, or what records name as a target.
        #[arg(long, value_name = "TARGET")]
        target: String,
        /// When: a time in UTC (2026-11-26T08:00:00Z), or a duration before now (2h).
        #[arg(long, value_name = "WHEN", value_parser = wire::moment)]
        at: String,
        #[command(flatten)]
        from: From,
    },
    /// What somebody had and did [local file].
    By {
        /// A SPIFFE ID, one and /*, a person's reference, or a login as records name it (uid:1000, ssh:SHA256:…, oidc:ISSUER).
        #[arg(long, value_name = "IDENTITY")]
        identity: String,
        #[command(flatten)]
        within: ledgers::Within,
        #[command(flatten)]
        from: From,
    },
    /// What the records do not show, or by fewer or less surely than they should, and what to do about each [local file].
    Gaps {
        #[command(flatten)]
        within: ledgers::Within,
        #[command(flatten)]
        from: From,
    },
    /// Records, proofs and a report of a case, in one file that can be verified anywhere [local file].
    Pack(packs::PackArgs),
    /// Whether a pack is what its log's key has signed, all of it, and its report follows from it. Exit code 1 when not [local file].
    Verify(packs::VerifyArgs),
    /// What the records show of resilience, monitoring or readiness, claim by claim [local file].
    Report {
        /// Which.
        #[arg(value_name = "KIND", value_parser = ["resilience", "monitoring", "readiness"])]
        kind: String,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        within: ledgers::Within,
        #[command(flatten)]
        from: From,
    },
    /// What the records show of each clause of a catalogue [local file].
    Map {
        /// Which.
        #[arg(value_name = "NAME", value_parser = ["nis2", "cir-2024-2690", "iec-62443", "nist", "owasp-nhi"], required_unless_present = "catalogue")]
        name: Option<String>,
        /// A catalogue of your own instead.
        #[arg(long, value_name = "FILE", conflicts_with = "name")]
        catalogue: Option<PathBuf>,
        #[command(flatten)]
        page: Page,
        #[command(flatten)]
        within: ledgers::Within,
        #[command(flatten)]
        from: From,
    },
}

#[derive(clap::Args, Debug)]
pub(crate) struct Page {
    /// Write it as a page, to read and to print, into this file; one that is there is replaced.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub(crate) fn run(command: EvidenceCommand, globals: &Globals) -> Result<u8, Failure> {
    match command {
        EvidenceCommand::Who { target, at, from } => {
            let opened = Opened::open(&from)?;
            let asked = Asked {
                target: &target,
                at: &at,
            };
            let evidence = opened.ledgers.evidence_for(&asked);
            let answer = who(&evidence.map_err(|error| ledgers::failure(&error))?, &asked);
            show(globals, &answer, || shown::who(&answer))?;
            Ok(opened.judged())
        }
        EvidenceCommand::By {
            identity,
            within,
            from,
        } => {
            let opened = Opened::open(&from)?;
            let answer = by(&opened.evidence(&within)?, &identity);
            show(globals, &answer, || shown::by(&answer))?;
            Ok(opened.judged())
        }
        EvidenceCommand::Gaps { within, from } => {
            let opened = Opened::open(&from)?;
            let evidence = opened.evidence(&within)?;
            let found = gaps(&evidence);
            let quality = Quality::of(&evidence, &found);
            let value = json!({ "quality": quality, "gaps": found, "ledgers": opened.json() });
            show(globals, &value, || shown::gaps(&found, &quality))?;
            Ok(opened.judged())
        }
        EvidenceCommand::Pack(args) => packs::pack(&args, globals),
        EvidenceCommand::Verify(args) => packs::verify(&args, globals),
        EvidenceCommand::Report {
            kind,
            page,
            within,
            from,
        } => mapped(&built_in(&kind)?, &page, &within, &from, globals),
        EvidenceCommand::Map {
            name,
            catalogue,
            page,
            within,
            from,
        } => {
            let catalogue = match (catalogue, name) {
                (Some(file), _) => {
                    let parsed = Catalogue::parse(&inspect::read_text(&file)?);
                    parsed.map_err(|error| {
                        let error = landfast_daemon::error_chain(&error);
                        let hint = "docs/evidence.md says how a catalogue is written";
                        Failure::failed(format!("{}: {error}", file.display()), hint)
                    })?
                }
                (None, name) => built_in(&name.unwrap_or_default())?,
            };
            mapped(&catalogue, &page, &within, &from, globals)
        }
    }
}

fn built_in(name: &str) -> Result<Catalogue, Failure> {
    Catalogue::built_in(name)
        .map_err(|error| Failure::failed(error, "landfast evidence map --help names them"))
}

fn mapped(
    catalogue: &Catalogue,
    page: &Page,
    within: &ledgers::Within,
    from: &From,
    globals: &Globals,
) -> Result<u8, Failure> {
    let opened = Opened::open(from)?;
    let evidence = opened.evidence(within)?;
    let mapping = catalogue.map(&evidence);
    let quality = Quality::of(&evidence, &gaps(&evidence));
    if let Some(file) = &page.html {
        let about = format!("Records from {} of {}.", evidence.period, opened.names());
        packs::write(
            file,
            landfast_evidence::catalogue_page(&mapping, &about, &quality).as_bytes(),
        )?;
    }
    let value = json!({ "mapping": mapping, "quality": quality, "period": evidence.period, "ledgers": opened.json() });
    show(globals, &value, || shown::mapping(&mapping, &quality))?;
    Ok(opened.judged())
}

fn show(
    globals: &Globals,
    value: &impl serde::Serialize,
    table: impl FnOnce() -> String,
) -> Result<(), Failure> {
    match globals.json() {
        true => {
            let value = serde_json::to_value(value).map_err(|error| {
                Failure::failed(
                    format!("the answer cannot be put into JSON: {error}"),
                    "try without --output json",
                )
            })?;
            output::print_json(&value)
        }
        false => output::print(&table()),
    }
}
