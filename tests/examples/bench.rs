//! Measures a real agent and server beside a bare tonic handler, in one run. Reports; never asserts on time.
//!
//! `bench --bin-dir DIR [--json FILE]` starts the three binaries found in DIR in a temporary directory, on loopback, with bounded
//! loops. The bare handler is this program again, as a second process. `docs/benchmarks.md` says how to read the result.

#![expect(
    clippy::print_stdout,
    reason = "a report for a person is what this program is for"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "measures real time with std's clock and writes throw-away files"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use landfast_proto::workload as pb;
use pb::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

const IDENTITIES: usize = 20;
const COLD_STARTS: usize = 40;
const FRESH: usize = 2_000;
const WARM: usize = 10_000;
const ROUNDS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "bare", socket, answer] => runtime.block_on(bare::serve(Path::new(socket), &fs::read(answer)?)),
        [_, "--bin-dir", dir] => runtime.block_on(run(Path::new(dir), None)),
        [_, "--bin-dir", dir, "--json", file] => runtime.block_on(run(Path::new(dir), Some(Path::new(file)))),
        _ => Err("usage: bench --bin-dir DIR [--json FILE]".into()),
    }
}

async fn run(bin: &Path, json: Option<&Path>) -> Result<(), BoxError> {
    let mut report = Report::default();
    for name in ["landfast-agent", "landfast-server", "landfast"] {
        let size = fs::metadata(bin.join(name))?.len();
        report.add(&format!("binary size {name}"), "MB", size as f64 / 1e6);
    }
    let plant = Plant::start(bin).await?;

    let mut client = connect(&plant.socket).await?;
    let first = fetch(&mut client).await?;
    drop(client);
    let answer = plant.dir.path().join("answer.bin");
    fs::write(&answer, first.encode_to_vec())?;

    tokio::time::sleep(Duration::from_secs(12)).await; // two synchronisations, so that start-up is over
    report.add(
        "agent idle, 20 identities: PSS",
        "MB",
        pss(plant.agent.0.id())? / 1024.0,
    );
    report.add(
        "agent idle, 20 identities: threads",
        "",
        threads(plant.agent.0.id())?,
    );
    report.add("server idle: PSS", "MB", pss(plant.server.0.id())? / 1024.0);

    let bare_socket = plant.dir.path().join("bare.sock");
    let bare = Daemon(
        Command::new(std::env::current_exe()?)
            .arg("bare")
            .arg(&bare_socket)
            .arg(&answer)
            .stdin(Stdio::null())
            .spawn()?,
    );
    wait_for("the bare handler", || bare_socket.exists()).await?;

    // Both take turns in short rounds, so that a noisy moment hits both.
    let mut samples: [Vec<Vec<f64>>; 2] = [vec![Vec::new(); 2], vec![Vec::new(); 2]];
    for _ in 0..ROUNDS {
        for (which, socket) in [&bare_socket, &plant.socket].into_iter().enumerate() {
            samples[which][0].extend(fresh(socket, FRESH / ROUNDS).await?);
            samples[which][1].extend(warm(socket, WARM / ROUNDS).await?);
        }
    }
    for (kind, label) in ["fresh connection + FetchX509SVID", "warm FetchX509SVID"]
        .into_iter()
        .enumerate()
    {
        for (q, name) in [(0.50, "p50"), (0.99, "p99")] {
            let raw = quantile(&mut samples[0][kind], q);
            let ours = quantile(&mut samples[1][kind], q);
            report.add(&format!("{label} {name}: bare tonic"), "µs", raw);
            report.add(&format!("{label} {name}: agent"), "µs", ours);
            report.add(&format!("{label} {name}: ratio"), "x", ours / raw);
        }
    }
    drop(bare);

    let Plant {
        dir,
        server,
        agent,
        socket,
        agent_config,
    } = plant;
    drop(agent);
    let mut starts = Vec::with_capacity(COLD_STARTS);
    for _ in 0..COLD_STARTS {
        let begin = Instant::now();
        let agent = daemon(bin, "landfast-agent", &agent_config, dir.path())?;
        until_served(&socket, begin).await?;
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
        drop(agent);
    }
    report.add(
        "cold start of an enrolled agent to first SVID p50",
        "ms",
        quantile(&mut starts, 0.5),
    );
    report.add(
        "cold start of an enrolled agent to first SVID p90",
        "ms",
        quantile(&mut starts, 0.9),
    );
    drop(server);

    report.print();
    if let Some(file) = json {
        fs::write(file, report.json())?;
    }
    Ok(())
}

/// A server and an enrolled agent with twenty identities, one of them ours.
struct Plant {
    dir: tempfile::TempDir,
    server: Daemon,
    agent: Daemon,
    socket: PathBuf,
    agent_config: PathBuf,
}

impl Plant {
    async fn start(bin: &Path) -> Result<Self, BoxError> {
        let dir = tempfile::Builder::new().prefix("landfast-bench-").tempdir()?;
        let d = dir.path();
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let admin = d.join("server/admin.sock");
        let socket = d.join("agent/api.sock");
        fs::create_dir(d.join("server"))?;
        fs::create_dir(d.join("agent"))?;
        let server_config = d.join("server.toml");
        fs::write(
            &server_config,
            format!(
                "trust_domain = \"bench.test\"\ndata_dir = \"{0}/server/data\"\nlisten = [\"127.0.0.1:{port}\"]\nadmin_socket = \"{1}\"\n[log]\nlevel = \"warn\"\n",
                d.display(),
                admin.display(),
            ),
        )?;
        let server = daemon(bin, "landfast-server", &server_config, d)?;
        wait_for("the server's admin socket", || admin.exists()).await?;
        let cli = |args: &[&str]| cli(bin, &admin, args);
        fs::write(d.join("bundle.pem"), cli(&["bundle", "show"])?)?;
        let token: serde_json::Value = serde_json::from_str(&cli(&["--output", "json", "token", "create"])?)?;
        let token = token["token"].as_str().ok_or("no token in the answer")?;
        let agent_config = d.join("agent.toml");
        fs::write(
            &agent_config,
            format!(
                "trust_domain = \"bench.test\"\nserver = [\"127.0.0.1:{port}\"]\ndata_dir = \"{0}/agent/data\"\nsocket = \"{1}\"\nadmin_socket = \"{0}/agent/admin.sock\"\ntrust_bundle = \"{0}/bundle.pem\"\n[attestation]\nmethod = \"join_token\"\ntoken = \"{token}\"\n[log]\nlevel = \"warn\"\n",
                d.display(),
                socket.display(),
            ),
        )?;
        let uid = nix::unistd::getuid().as_raw();
        let parent = format!("spiffe://bench.test/spire/agent/join_token/{token}");
        for i in 0..IDENTITIES {
            // The first is ours; the rest belong to users that are not there, so that the agent holds twenty and a fetch gets one.
            let selector = format!(
                "unix:uid:{}",
                if i == 0 { uid } else { 60_000 + u32::try_from(i)? }
            );
            let id = format!("spiffe://bench.test/w{i}");
            cli(&[
                "entry",
                "create",
                "--spiffe-id",
                &id,
                "--parent-id",
                &parent,
                "--selector",
                &selector,
            ])?;
        }
        let begin = Instant::now();
        let agent = daemon(bin, "landfast-agent", &agent_config, d)?;
        until_served(&socket, begin).await?;
        Ok(Self {
            server,
            agent,
            socket,
            agent_config,
            dir,
        })
    }
}

/// A child that does not outlive us.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn daemon(bin: &Path, name: &str, config: &Path, dir: &Path) -> Result<Daemon, BoxError> {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(dir.join(format!("{name}.log")))?;
    let child = Command::new(bin.join(name))
        .args(["run", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(Daemon(child))
}

fn cli(bin: &Path, admin: &Path, args: &[&str]) -> Result<String, BoxError> {
    let out = Command::new(bin.join("landfast"))
        .arg("--server-socket")
        .arg(admin)
        .args(args)
        .output()?;
    if !out.status.success() {
        return Err(format!("landfast {args:?}: {}", String::from_utf8_lossy(&out.stderr)).into());
    }
    Ok(String::from_utf8(out.stdout)?)
}

async fn wait_for(what: &str, mut there: impl FnMut() -> bool) -> Result<(), BoxError> {
    let begin = Instant::now();
    while !there() {
        if begin.elapsed() > PATIENCE {
            return Err(format!("{what} did not appear within {PATIENCE:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn until_served(socket: &Path, begin: Instant) -> Result<(), BoxError> {
    loop {
        let last: BoxError = match connect(socket).await {
            Ok(mut client) => match fetch(&mut client).await {
                Ok(_) => return Ok(()),
                Err(e) => e,
            },
            Err(e) => e,
        };
        if begin.elapsed() > PATIENCE {
            return Err(format!("no SVID within {PATIENCE:?}: {last}").into());
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn connect(socket: &Path) -> Result<SpiffeWorkloadApiClient<Channel>, BoxError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await?;
    Ok(SpiffeWorkloadApiClient::new(channel))
}

async fn fetch(client: &mut SpiffeWorkloadApiClient<Channel>) -> Result<pb::X509svidResponse, BoxError> {
    let mut request = Request::new(pb::X509svidRequest {});
    request
        .metadata_mut()
        .insert("workload.spiffe.io", "true".parse()?);
    let mut stream = client.fetch_x509svid(request).await?.into_inner();
    Ok(stream
        .message()
        .await?
        .ok_or("the stream ended before its first message")?)
}

async fn fresh(socket: &Path, count: usize) -> Result<Vec<f64>, BoxError> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        let mut client = connect(socket).await?;
        fetch(&mut client).await?;
        took.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

async fn warm(socket: &Path, count: usize) -> Result<Vec<f64>, BoxError> {
    let mut client = connect(socket).await?;
    fetch(&mut client).await?;
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        fetch(&mut client).await?;
        took.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

fn quantile(samples: &mut [f64], q: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[((samples.len() - 1) as f64 * q).round() as usize]
}

fn pss(pid: u32) -> Result<f64, BoxError> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

fn threads(pid: u32) -> Result<f64, BoxError> {
    field(&format!("/proc/{pid}/status"), "Threads:")
}

fn field(path: &str, name: &str) -> Result<f64, BoxError> {
    let text = fs::read_to_string(path)?;
    let line = text
        .lines()
        .find(|l| l.starts_with(name))
        .ok_or_else(|| format!("{path}: no {name}"))?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}

/// What was measured, in order.
#[derive(Default)]
struct Report(Vec<(String, String, f64)>);

impl Report {
    fn add(&mut self, what: &str, unit: &str, value: f64) {
        self.0.push((what.to_owned(), unit.to_owned(), value));
    }

    fn print(&self) {
        for (what, unit, value) in &self.0 {
            println!("{what:<58} {value:>10.2} {unit}");
        }
    }

    fn json(&self) -> String {
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|(w, u, v)| serde_json::json!({"what": w, "unit": u, "value": v}))
            .collect();
        serde_json::Value::Array(rows).to_string()
    }
}

/// The raw limit: a tonic handler that answers every fetch with the same prepared message and reads the peer's credentials, no more.
mod bare {
    use super::{BoxError, Message, Path, UnixListener, UnixListenerStream, pb};
    use pb::spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer};
    use std::pin::Pin;
    use tokio_stream::Stream;
    use tonic::{Request, Response, Status};

    type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

    struct Bare(pb::X509svidResponse);

    #[tonic::async_trait]
    impl SpiffeWorkloadApi for Bare {
        type FetchX509SVIDStream = Reply<pb::X509svidResponse>;
        type FetchX509BundlesStream = Reply<pb::X509BundlesResponse>;
        type FetchJWTBundlesStream = Reply<pb::JwtBundlesResponse>;
        type FetchWITSVIDStream = Reply<pb::WitsvidResponse>;
        type FetchWITBundlesStream = Reply<pb::WitBundlesResponse>;

        async fn fetch_x509svid(
            &self,
            _: Request<pb::X509svidRequest>,
        ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
            let first = tokio_stream::once(Ok(self.0.clone()));
            Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(
                first,
                tokio_stream::pending(),
            ))))
        }
        async fn fetch_x509_bundles(
            &self,
            _: Request<pb::X509BundlesRequest>,
        ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
            Err(Status::unimplemented("not measured"))
        }
        async fn fetch_jwtsvid(
            &self,
            _: Request<pb::JwtsvidRequest>,
        ) -> Result<Response<pb::JwtsvidResponse>, Status> {
            Err(Status::unimplemented("not measured"))
        }
        async fn fetch_jwt_bundles(
            &self,
            _: Request<pb::JwtBundlesRequest>,
        ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
            Err(Status::unimplemented("not measured"))
        }
        async fn validate_jwtsvid(
            &self,
            _: Request<pb::ValidateJwtsvidRequest>,
        ) -> Result<Response<pb::ValidateJwtsvidResponse>, Status> {
            Err(Status::unimplemented("not measured"))
        }
        async fn fetch_witsvid(
            &self,
            _: Request<pb::WitsvidRequest>,
        ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
            Err(Status::unimplemented("not measured"))
        }
        async fn fetch_wit_bundles(
            &self,
            _: Request<pb::WitBundlesRequest>,
        ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
            Err(Status::unimplemented("not measured"))
        }
    }

    pub(super) async fn serve(socket: &Path, answer: &[u8]) -> Result<(), BoxError> {
        let listener = UnixListener::bind(socket)?;
        let service = SpiffeWorkloadApiServer::new(Bare(pb::X509svidResponse::decode(answer)?));
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await?;
        Ok(())
    }
}
