//! Signing over `BatchNewX509SVID`, durable record included, beside one P-256 verification and one signature on one core.

use std::path::Path;
use std::time::{Duration, Instant};

use landfast_identity::{PrivateKey, build_csr};
use landfast_proto::spire::api::server::entry::v1 as entry_api;
use landfast_proto::spire::api::server::svid::v1 as svid_api;
use landfast_proto::spire::api::types;
use landfast_testkit::site::{Site, TRUST_DOMAIN};
use landfast_testkit::unix_channel;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use svid_api::svid_client::SvidClient;

use crate::chart::Series;
use crate::node::Node;
use crate::report::Report;
use crate::{BoxError, unlimited};

pub(crate) async fn measure(bin: &Path, report: &mut Report) -> Result<(), BoxError> {
    let raw = raw_rate()?;
    report.add("raw: one P-256 verification + one signature, one core", "/s", raw);
    let site = unlimited(bin, report);
    let node = Node::enrol(&site).await?;
    let requests = node.requests(&site, 500).await?;
    let database = site.path().join("server/data");
    let mut charted = [
        Series::new("raw, one core"),
        Series::new("server, per core used"),
        Series::new("server, wall clock"),
    ];
    let (mut issued, mut growth) = (0_u64, 0_u64);
    let mut grown = Series::new("disk for 1,000 of them");
    for batch in [1, 50, 500] {
        let before = size_of(&database)?;
        let cpu = site.server.cpu();
        let begin = Instant::now();
        let count = node.load(&requests, batch).await?;
        let (wall, cpu) = (
            begin.elapsed().as_secs_f64(),
            (site.server.cpu() - cpu).as_secs_f64(),
        );
        issued += count;
        growth += size_of(&database)?.saturating_sub(before);
        // KB for a thousand is bytes for one.
        let each = growth as f64 / issued as f64;
        report.add(
            &format!("records: disk for 1,000 SVIDs, of the first {issued}"),
            "KB",
            each,
        );
        grown.push(issued, each);
        let label = format!("issuance, batches of {batch}, 4 at once");
        report.add(
            &format!("{label}: a second, as seen by the client"),
            "/s",
            count as f64 / wall,
        );
        report.add(&format!("{label}: per core used"), "/s", count as f64 / cpu);
        let aim = if batch == 1 { "" } else { " (aim >= 0.50)" };
        report.add(
            &format!("{label}: share of raw, per core{aim}"),
            "x",
            count as f64 / cpu / raw,
        );
        charted[0].push(batch, raw);
        charted[1].push(batch, count as f64 / cpu);
        charted[2].push(batch, count as f64 / wall);
    }
    report.chart(
        "issuance",
        "X.509-SVIDs issued, each with a durable record",
        "SVIDs in a request",
        "a second",
        &charted,
    )?;
    report.chart(
        "records",
        "Records of SVIDs on the disk",
        "SVIDs issued",
        "KB",
        &[grown],
    )?;
    report.add(
        "records: disk of a site with 1,000 SVIDs a day, kept 30 days",
        "MB",
        growth as f64 / issued as f64 * 30.0 / 1e3,
    );
    Ok(())
}

/// What no signing server on ring can exceed on one core: a request's signature checked, a certificate signed.
fn raw_rate() -> Result<f64, BoxError> {
    let random = ring::rand::SystemRandom::new();
    let unspecified = |_unspecified| BoxError::from("ring failed");
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(unspecified)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random)?;
    let message = [7_u8; 300];
    let signature = pair.sign(&random, &message).map_err(unspecified)?;
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, pair.public_key().as_ref());
    // By the core's time and not by the clock, as the server's share is: whoever else runs takes from neither.
    let (begin, busy, mut count) = (Instant::now(), own_cpu()?, 0_u32);
    while begin.elapsed() < LOAD {
        for _ in 0..100 {
            public.verify(&message, signature.as_ref()).map_err(unspecified)?;
            std::hint::black_box(pair.sign(&random, &message).map_err(unspecified)?);
        }
        count += 100;
    }
    Ok(f64::from(count) / (own_cpu()? - busy))
}

/// Seconds that this thread has run.
fn own_cpu() -> Result<f64, BoxError> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

impl Node {
    /// Entries for this node, and a request for each, with keys made beforehand.
    pub(crate) async fn requests(
        &self,
        site: &Site,
        count: usize,
    ) -> Result<Vec<svid_api::NewX509svidParams>, BoxError> {
        let path = |path: &str| {
            Some(types::Spiffeid {
                trust_domain: TRUST_DOMAIN.to_owned(),
                path: path.to_owned(),
            })
        };
        let entries = (0..count).map(|n| types::Entry {
            spiffe_id: path(&format!("/issuance/{n}")),
            parent_id: path(self.id.path()),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: format!("uid:{}", 70_000 + n),
            }],
            ..Default::default()
        });
        let request = entry_api::BatchCreateEntryRequest {
            entries: entries.collect(),
            output_mask: None,
        };
        let made = entry_api::entry_client::EntryClient::new(unix_channel(&site.admin_socket()).await?)
            .batch_create_entry(request)
            .await?
            .into_inner();
        let requests = made.results.into_iter().map(|result| {
            let entry = result.entry.ok_or("an entry was refused")?;
            Ok(svid_api::NewX509svidParams {
                entry_id: entry.id,
                csr: build_csr(&PrivateKey::generate()?, None, &[])?.into(),
            })
        });
        requests.collect()
    }

    /// Asks four at once for [`LOAD`]; answers how many SVIDs came.
    pub(crate) async fn load(
        &self,
        requests: &[svid_api::NewX509svidParams],
        batch: usize,
    ) -> Result<u64, BoxError> {
        let end = Instant::now() + LOAD;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..4 {
            let channel = self.channel.clone();
            // Each asks for others, so that no two ask for one identity at the same time.
            let part = requests.len() / 4;
            let own: Vec<_> = requests
                .iter()
                .cycle()
                .skip(n * part)
                .take(requests.len())
                .cloned()
                .collect();
            tasks.spawn(async move {
                let mut client = SvidClient::new(channel).max_decoding_message_size(64 << 20);
                let (mut count, mut at) = (0_u64, 0);
                while Instant::now() < end {
                    let params: Vec<_> = own.iter().cycle().skip(at).take(batch).cloned().collect();
                    at = (at + batch) % own.len();
                    let answer = client
                        .batch_new_x509svid(svid_api::BatchNewX509svidRequest { params })
                        .await?;
                    for result in answer.into_inner().results {
                        match result.svid {
                            Some(_) => count += 1,
                            None => return Err(format!("refused: {:?}", result.status).into()),
                        }
                    }
                }
                Ok::<_, BoxError>(count)
            });
        }
        let mut total = 0;
        while let Some(done) = tasks.join_next().await {
            total += done??;
        }
        Ok(total)
    }
}

/// Bytes of the files in a folder.
fn size_of(dir: &Path) -> Result<u64, BoxError> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // The log of the database is emptied now and then; what stays is the database.
        if entry.file_name().to_string_lossy().ends_with("-wal") {
            continue;
        }
        total += entry.metadata()?.len();
    }
    Ok(total)
}

const LOAD: Duration = Duration::from_secs(5);
