//! Delegates that count processes otherwise than the agent does (T-11).

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};

use landfast_testkit::site::Plan;
use landfast_testkit::wire;

use crate::{Ground, LONG, VICTIM, contains, public_rig, rig};

/// Ends with the test.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A whole connection that asks for the SVIDs of a process, by its number or by its user.
fn ask(message: &[u8]) -> Vec<u8> {
    let path = "/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509SVIDs";
    let headers = wire::header_block(&wire::call(path));
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let body = [&[0], length.as_slice(), message].concat();
    [
        wire::preface(),
        wire::frame(wire::HEADERS, wire::END_HEADERS, 1, &headers),
        wire::frame(wire::DATA, wire::END_STREAM, 1, &body),
    ]
    .concat()
}

fn by_number(mut pid: u32) -> Vec<u8> {
    let mut message = vec![2 << 3];
    while pid >= 0x80 {
        message.push(pid.to_le_bytes()[0] | 0x80);
        pid >>= 7;
    }
    message.extend(u8::try_from(pid));
    message
}

fn by_user(uid: u32) -> Vec<u8> {
    let field =
        |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let selector = [field(1, b"unix"), field(2, format!("uid:{uid}").as_bytes())].concat();
    field(1, &selector)
}

/// T-11: there the number is another process's, or nobody's.
#[test]
fn t11_a_delegate_in_another_pid_namespace_has_nobody_by_number() {
    let ground = Ground::new(&Plan {
        agent_tables: "[[authorized_delegates]]\ndelegate = \"spiffe://site.test/mesh\"\nmay_have = [\"spiffe://site.test/line/*\"]",
        ..Plan::default()
    });
    ground.site.entry("/mesh", &["unix:uid:0"]);
    ground.site.entry("/line/x", &[&format!("unix:uid:{VICTIM}")]);
    let workload = Sleeper(Command::new("sleep").arg("600").uid(VICTIM).spawn().unwrap());
    let program = public_rig(&ground, "fetch");
    let socket = ground.site.path().join("agent/admin.sock");
    let file = |name: &str, message: &[u8]| {
        let path = ground.site.path().join(name);
        std::fs::write(&path, ask(message)).unwrap();
        path
    };
    let (number, user) = (
        file("by-number.bin", &by_number(workload.0.id())),
        file("by-user.bin", &by_user(VICTIM)),
    );
    let heard = |mut command: Command, request: &std::path::Path| {
        let out = command
            .args([&socket, request])
            .args([LONG, IDENTITY])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let outside = || Command::new(&program);
    let nested = || {
        let mut command = Command::new(rig("nested"));
        command.arg("0").args([&program, &program]);
        command
    };
    assert!(contains(&heard(outside(), &number), IDENTITY), "the control");
    let answer = heard(nested(), &number);
    assert!(answer.len() > 50, "it was answered");
    assert!(
        !contains(&answer, IDENTITY),
        "a number that means another process"
    );
    assert!(
        contains(&heard(nested(), &user), IDENTITY),
        "it is a delegate there too"
    );
}

const IDENTITY: &str = "spiffe://site.test/line/x";
