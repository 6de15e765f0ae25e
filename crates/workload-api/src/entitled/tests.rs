//! How long a request waits for what is in flight, in simulated time.

use landfast_identity::{Bundle, TrustDomain};

use super::*;

const FIVE: Duration = Duration::from_secs(5);

fn view(state: ViewState) -> Arc<WorkloadView> {
    let own = Bundle::new(TrustDomain::parse("plant.test").expect("a trust domain"));
    Arc::new(WorkloadView {
        x509: Vec::new(),
        jwt_identities: Vec::new(),
        own_bundle: Arc::new(own),
        federated: Vec::new(),
        state,
    })
}

/// What is answered to who wants this, and after how long, while the state goes through these.
async fn answered(
    wait: &mut Wait,
    wanted: Wanted,
    first: ViewState,
    then: &[(u64, ViewState)],
) -> (ViewState, Duration) {
    let (sender, mut views) = watch::channel(view(first));
    let begun = Instant::now();
    let going_on = async {
        for (after, state) in then {
            tokio::time::sleep_until(begun + Duration::from_millis(*after)).await;
            sender.send_replace(view(*state));
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = going_on => unreachable!("it is pending"),
        settled = wait.settled(&mut views, wanted, || {}) => (settled.unwrap().state, begun.elapsed()),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_is_waited_for_until_it_comes_and_five_seconds_at_most() {
    use ViewState::{NoIdentity, Ready, Starting, WithoutX509};
    assert_eq!(crate::Limits::default().first_answer, FIVE);
    for (wanted, first, then, state, after) in [
        // Neither the first synchronisation nor a signature comes.
        (Wanted::X509Svids, Starting, vec![], Starting, 5000),
        (Wanted::Rest, Starting, vec![], Starting, 5000),
        (Wanted::X509Svids, WithoutX509, vec![], WithoutX509, 5000),
        (
            Wanted::X509Svids,
            Starting,
            vec![(2000, WithoutX509)],
            WithoutX509,
            5000,
        ),
        // It comes: at once, to the millisecond.
        (Wanted::X509Svids, Starting, vec![(1234, Ready)], Ready, 1234),
        (Wanted::X509Svids, WithoutX509, vec![(4999, Ready)], Ready, 4999),
        (
            Wanted::X509Svids,
            Starting,
            vec![(10, WithoutX509), (70, Ready)],
            Ready,
            70,
        ),
        // Bundles and tokens do not need it.
        (Wanted::Rest, Starting, vec![(10, WithoutX509)], WithoutX509, 10),
        (Wanted::Rest, WithoutX509, vec![], WithoutX509, 0),
        (Wanted::Secrets, WithoutX509, vec![], WithoutX509, 0),
        // Who has no entry hears so at once.
        (Wanted::X509Svids, NoIdentity, vec![(10, Ready)], NoIdentity, 0),
        (Wanted::Rest, NoIdentity, vec![], NoIdentity, 0),
        (
            Wanted::X509Svids,
            Starting,
            vec![(300, NoIdentity)],
            NoIdentity,
            300,
        ),
        (Wanted::X509Svids, Ready, vec![], Ready, 0),
    ] {
        let case = format!("{wanted:?} {first:?} {then:?}");
        let found = answered(&mut Wait::of(FIVE), wanted, first, &then).await;
        assert_eq!(found, (state, Duration::from_millis(after)), "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_looks_again_does_not_wait_again() {
    let mut wait = Wait::of(FIVE);
    let then = [(4000, ViewState::NoIdentity)];
    answered(&mut wait, Wanted::X509Svids, ViewState::Starting, &then).await;
    let again = answered(&mut wait, Wanted::X509Svids, ViewState::WithoutX509, &[]).await;
    assert_eq!(again, (ViewState::WithoutX509, Duration::from_secs(1)));
}

/// What there is to ask for is not known before the first synchronisation, and may become more.
#[tokio::test(start_paused = true)]
async fn who_waits_asks_again_after_each_change() {
    use ViewState::{NoIdentity, Ready, Starting, WithoutX509};
    for (first, then, times) in [
        (Ready, vec![], 1),
        (NoIdentity, vec![], 1),
        (Starting, vec![(10, WithoutX509)], 2),
        (
            Starting,
            vec![(10, WithoutX509), (20, WithoutX509), (30, Ready)],
            4,
        ),
    ] {
        let (sender, mut views) = watch::channel(view(first));
        let asked = std::cell::Cell::new(0);
        let begun = Instant::now();
        let going_on = async {
            for (after, state) in &then {
                tokio::time::sleep_until(begun + Duration::from_millis(*after)).await;
                sender.send_replace(view(*state));
            }
            std::future::pending::<()>().await;
        };
        let mut wait = Wait::of(FIVE);
        let ask = || asked.set(asked.get() + 1);
        tokio::select! {
            () = going_on => unreachable!("it is pending"),
            settled = wait.settled(&mut views, Wanted::X509Svids, ask) => drop(settled.unwrap()),
        }
        assert_eq!(asked.get(), times, "{first:?} {then:?}");
    }
}
