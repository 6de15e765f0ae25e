//! The whole agent while its server is away and its clock is wrong (T-28, rig 5.3): real sockets, simulated clocks.
//!
//! Time is paused only while nobody is spoken to.

use landfast_lifecycle::{Clock as _, Mark, SimBoot, SimClock, TimeRecord};

use super::*;

const SIXTY_HOURS: i64 = 60 * 3600;

/// A machine, which outlives the agents on it.
struct Machine {
    world: World,
    wall: SimClock,
    boots: u32,
}

impl Machine {
    async fn new() -> Self {
        let world = World::new().await;
        {
            let mut script = world.server.script();
            script.time = Some(0);
            script.workload_validity = Some((-300, 12 * 3600));
            script.agent_validity = Some((-300, 12 * 3600));
            script.jwt_life = Some(12 * 3600);
        }
        let wall = SimClock::new(SystemClock.now().unwrap());
        Self {
            world,
            wall,
            boots: 0,
        }
    }

    async fn start(&mut self) -> AgentHandle {
        self.boots += 1;
        let parts = AgentParts {
            clock: Arc::new(self.wall.clone()),
            boot: Arc::new(SimBoot::new(
                &format!("boot {}", self.boots),
                Duration::from_secs(30),
            )),
            ..AgentParts::default()
        };
        Agent::start(self.world.config(), parts, &self.world.tree.handle())
            .await
            .unwrap()
    }
}

#[tokio::test]
async fn what_is_known_of_the_time_and_cannot_be_read_does_not_keep_the_agent_from_starting() {
    let world = World::new().await;
    let config = world.config();
    drop(read_state(&config).unwrap());
    let path = config.data_dir.join(crate::persist::TIME);
    let private = |bytes: &[u8]| crate::testing::write_private(&path, bytes);
    private(b"{");
    assert_eq!(read_state(&config).unwrap().times, None);
    private(&vec![b' '; 20 << 20]);
    assert_eq!(read_state(&config).unwrap().times, None, "too large");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(read_state(&config).unwrap().times, None, "everybody's");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(read_state(&config).unwrap().times, None, "a directory");
}

/// Lets so much time go by, with everybody having his turns.
async fn minutes(minutes: u32) {
    tokio::time::pause();
    for _ in 0..minutes * 6 {
        tokio::time::advance(Duration::from_secs(10)).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    tokio::time::resume();
}

struct Workload(WorkloadClient);

impl Workload {
    async fn new(handle: &AgentHandle) -> Self {
        let client = WorkloadClient::connect(handle.socket().to_str().unwrap()).await;
        Self(client.unwrap())
    }

    /// Whether there is an X.509-SVID, and a JWT-SVID.
    async fn fetch(&mut self) -> (bool, bool) {
        let x509 = self.0.fetch_x509().await;
        let jwt = self.0.fetch_jwt(&["receiver".to_owned()], None).await;
        (
            x509.is_ok_and(|fetched| fetched.svids.len() == 1),
            jwt.is_ok_and(|tokens| tokens.len() == 1),
        )
    }
}

async fn time_of(handle: &AgentHandle) -> api::Time {
    let status = admin(handle).await.get_status(api::GetStatusRequest {}).await;
    status.unwrap().into_inner().time.unwrap()
}

/// The test that the issue asks for.
#[tokio::test]
async fn a_clock_that_is_60_hours_ahead_for_five_minutes_while_islanded_costs_no_fetch_before_or_after() {
    const AHEAD: i64 = SIXTY_HOURS + 120;
    let mut machine = Machine::new().await;
    let handle = machine.start().await;
    handle.ready().await;
    let mut workload = Workload::new(&handle).await;
    assert_eq!(workload.fetch().await, (true, true));
    machine.world.server.stop();
    let health = handle.health.clone();
    for _ in 0..3 {
        minutes(10).await;
        assert_eq!(workload.fetch().await, (true, true), "before");
        assert_eq!(time_of(&handle).await.complaint, "");
        machine.wall.step(AHEAD);
        minutes(5).await;
        assert!(
            !workload.fetch().await.0,
            "what is over by the clock is not served"
        );
        let time = time_of(&handle).await;
        // The server's clock is that of the machine that runs the test.
        assert!(
            (time.clock_wrong_by - AHEAD).abs() < 120 && !time.estimated,
            "{time:?}"
        );
        until("health says so", || {
            health.borrow().reason.contains("the clock is wrong by 2 d 12 h")
        })
        .await;
        machine.wall.step(-AHEAD);
        assert_eq!(workload.fetch().await, (true, true), "after");
        let mut another = Workload::new(&handle).await;
        assert_eq!(another.fetch().await, (true, true), "and by who is new");
        minutes(2).await;
        assert_eq!(workload.fetch().await, (true, true), "and later");
        assert_eq!(time_of(&handle).await.complaint, "");
    }
    machine.world.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_stepped_back_two_hours_each_minute_is_not_gone_by() {
    let mut machine = Machine::new().await;
    let handle = machine.start().await;
    handle.ready().await;
    let mut workload = Workload::new(&handle).await;
    assert_eq!(workload.fetch().await, (true, true));
    machine.world.server.stop();
    for _ in 0..20 {
        machine.wall.step(-7200);
        minutes(1).await;
        assert_eq!(workload.fetch().await, (true, true));
    }
    let time = time_of(&handle).await;
    assert!(
        time.estimated && time.complaint.contains("time: estimated"),
        "{time:?}"
    );
    let truth = SystemClock.now().unwrap().as_secs() + 1200;
    assert!((time.now - truth).abs() < 120, "{time:?}, {truth}");
    // Nothing that is over comes back: they live for twelve hours.
    minutes(12 * 60).await;
    assert_eq!(workload.fetch().await, (false, false));
    machine.wall.step(-SIXTY_HOURS);
    assert_eq!(workload.fetch().await, (false, false));
    machine.world.stop().await;
}

/// An island whose power was cut, and whose server comes back with a clock that is 50 minutes ahead: what is valid for 40 is served.
#[tokio::test]
async fn the_first_server_of_a_boot_takes_nothing_from_a_node_whose_clock_is_right() {
    let mut machine = Machine::new().await;
    let config = machine.world.config();
    let yesterday = UnixTime::from_secs(SystemClock.now().unwrap().as_secs() - 86_400);
    let mark = Mark {
        time: yesterday,
        at: Duration::ZERO,
    };
    let record = TimeRecord {
        floor: yesterday,
        estimate: mark,
        boot_id: "boot 0".to_owned(),
        told: true,
        witness: true,
        anchor: mark,
        candidate: None,
    };
    let files = crate::persist::NodeFiles::open(&config.data_dir, &config.trust_domain).unwrap();
    files.save_times(&record).unwrap();
    drop(files);
    machine.world.server.script().workload_validity = Some((-300, 2400));
    let handle = machine.start().await;
    handle.ready().await;
    assert!(Workload::new(&handle).await.fetch().await.0);
    machine.world.stop_agent().await;
    {
        let mut script = machine.world.server.script();
        script.time = Some(3000);
        script.workload_validity = Some((2700, 5400));
    }
    let handle = machine.start().await;
    until("the server has been heard", || {
        let health = handle.health.borrow();
        health.reason.contains("the server's clock has leapt by 50 min")
            || health.reason.contains("the server's clock has leapt by 49 min")
    })
    .await;
    let time = time_of(&handle).await;
    let truth = SystemClock.now().unwrap().as_secs();
    assert!(!time.estimated && (time.now - truth).abs() < 60, "{time:?}");
    for _ in 0..3 {
        assert!(
            Workload::new(&handle).await.fetch().await.0,
            "valid by the node's clock"
        );
        minutes(2).await;
    }
    machine.world.stop().await;
}

/// Power returns, the clock shows 1970, and the server is there again.
#[tokio::test]
async fn a_start_at_1970_goes_on_from_what_was_kept_and_is_told_the_time() {
    let mut machine = Machine::new().await;
    let handle = machine.start().await;
    handle.ready().await;
    let known = time_of(&handle).await;
    assert!(!known.estimated);
    machine.world.stop_agent().await;
    machine.wall.step(-SystemClock.now().unwrap().as_secs());
    let handle = machine.start().await;
    let time = time_of(&handle).await;
    assert!(time.estimated && (time.now - known.now).abs() < 60, "{time:?}");
    handle.ready().await;
    assert_eq!(Workload::new(&handle).await.fetch().await, (true, true));
    assert_eq!(machine.world.server.calls("AttestAgent"), 1);
    machine.world.stop().await;
}
