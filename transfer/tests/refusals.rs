//! Trees that must not arrive, and what either end is told.

#![allow(clippy::unwrap_used)] // What fails in a helper fails its test.

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Ca, Nodes, Validity, dir, endpoint, file, noise};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use transship_transfer::core::close::CloseCode;
use transship_transfer::core::receive::Violation;
use transship_transfer::core::send::Misuse;
use transship_transfer::identity::{IdentityError, NameError};
use transship_transfer::quic::{CertificateFault, ConnectError, LinkError, Whose};
use transship_transfer::receive::AcceptFault;
use transship_transfer::{Endpoint, Identity, Limits, ReceiveError, SendError, Sender};

/// What happens when `a` dials `b` by the name `name`: at `a`, and at `b`.
async fn dial(a: &Identity, b: &Identity, name: &str) -> (LinkError, LinkError) {
    let (a, b) = (endpoint(a), endpoint(b));
    let address = b.local_address().unwrap();
    let dial = async |endpoint: &Endpoint| match endpoint.connect(address, name).await {
        Ok(connection) => match Sender::open(connection, "ticket".into()).await.unwrap_err() {
            SendError::Link(error) => error,
            error => panic!("{error:?}"),
        },
        Err(ConnectError::Link(error)) => error,
        Err(error) => panic!("{error:?}"),
    };
    let mut listener = b.listen();
    let (dialled, accepted) = tokio::join!(dial(&a), listener.accept());
    match accepted.unwrap().unwrap_err().source {
        AcceptFault::Link(error) => (dialled, error),
        error => panic!("{error:?}"),
    }
}

fn assert_certificate(error: LinkError, whose: Whose, fault: CertificateFault) {
    match error {
        LinkError::Certificate(problem) => assert_eq!((problem.whose, problem.fault), (whose, fault)),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn an_expired_certificate_of_the_receiver_is_told_apart() {
    let ca = Ca::new();
    let (a, b) = dial(&ca.node("a"), &ca.issue(&["b"], Validity::Past), "b").await;
    assert_certificate(a, Whose::Theirs, CertificateFault::Expired);
    assert_certificate(b, Whose::Ours, CertificateFault::Expired);
}

#[tokio::test]
async fn an_expired_certificate_of_the_sender_is_told_apart() {
    let ca = Ca::new();
    let (a, b) = dial(&ca.issue(&["a"], Validity::Past), &ca.node("b"), "b").await;
    assert_certificate(a, Whose::Ours, CertificateFault::Expired);
    assert_certificate(b, Whose::Theirs, CertificateFault::Expired);
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_told_apart() {
    let (a, b) = dial(&Ca::new().node("a"), &Ca::new().node("b"), "b").await;
    assert_certificate(a, Whose::Theirs, CertificateFault::UnknownCa);
    assert_certificate(b, Whose::Ours, CertificateFault::UnknownCa);
}

#[tokio::test]
async fn another_node_than_the_one_dialled_is_told_apart() {
    let ca = Ca::new();
    let (a, b) = dial(&ca.node("a"), &ca.node("b"), "c").await;
    assert_certificate(a, Whose::Theirs, CertificateFault::WrongNode);
    assert_certificate(b, Whose::Ours, CertificateFault::WrongNode);
}

#[tokio::test]
async fn a_certificate_names_one_node() {
    let error = Ca::new().try_issue(&["a", "b"], Validity::Now).unwrap_err();
    assert!(matches!(error, IdentityError::Name(NameError::Several { .. })), "{error:?}");
    let error = Ca::new().try_issue(&["10.0.0.1"], Validity::Now).unwrap_err();
    assert!(matches!(error, IdentityError::Name(NameError::None)), "{error:?}");
}

#[tokio::test]
async fn nobody_at_home_is_told_apart() {
    let endpoint = common::impatient(&Ca::new().node("a"));
    let vacant = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = endpoint.connect(vacant.local_addr().unwrap(), "b").await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Link(LinkError::Lost(_)) | ConnectError::NoAnswer { .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_application_refuses_with_its_own_code() {
    let mut nodes = Nodes::new();
    let (sender, incoming) = nodes.meet("unknown").await;
    incoming.unwrap().refuse(404, "no such migration");
    match sender.await.unwrap().unwrap_err() {
        SendError::Refused { code: 404, reason } => assert_eq!(reason, "no such migration"),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let mut nodes = Nodes::new();
    let target = dir();
    fs::write(target.path().join("left-over"), b"").unwrap();
    let (sender, incoming) = nodes.meet("ticket").await;
    let error = incoming.unwrap().accept(target.path(), Limits::default()).await.unwrap_err();
    assert!(matches!(error, ReceiveError::Store(_)), "{error:?}");
    assert_closed(sender.await.unwrap().unwrap_err(), CloseCode::StoreFailed);
}

#[track_caller]
fn assert_closed(error: SendError, expected: CloseCode) {
    match error {
        SendError::Link(LinkError::Closed { code, .. }) => assert_eq!(code, expected),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_tree_over_the_limit_is_refused_while_it_comes() {
    let target = dir();
    let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
    let (sender, receiving) = Nodes::new().transfer_within(target.path(), limits).await;
    let sending = async {
        match sender.file("large", 0o600, file(&noise(1, 2 << 20))).await {
            Ok(()) => sender.seal().await.unwrap_err(),
            Err(error) => error,
        }
    };
    let (sent, received) = tokio::join!(sending, receiving.verified());
    assert_closed(sent, CloseCode::TooMuch);
    let error = received.unwrap_err().error;
    assert!(
        matches!(error, ReceiveError::Violation(Violation::TooManyBytes { limit: 1_048_576 })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_sender_that_is_dropped_cancels() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    sender.file("a", 0o600, file(b"a")).await.unwrap();
    drop(sender);
    let error = receiving.verified().await.unwrap_err().error;
    assert!(matches!(error, ReceiveError::Cancelled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_receiver_that_is_dropped_cancels() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    drop(receiving);
    assert_closed(sender.seal().await.unwrap_err(), CloseCode::Cancelled);
}

#[tokio::test]
async fn an_entry_that_was_not_finished_cannot_be_sealed() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    drop(sender.follow("pages-1.img", 0o600, file(b"half")).await.unwrap());
    match sender.seal().await.unwrap_err() {
        SendError::Misuse(Misuse::Unfinished { path }) => assert_eq!(path.as_str(), "pages-1.img"),
        error => panic!("{error:?}"),
    }
    assert!(matches!(receiving.verified().await.unwrap_err().error, ReceiveError::Cancelled { .. }));
}

#[tokio::test]
async fn a_path_given_twice_and_a_path_out_of_the_tree_are_refused_before_they_are_sent() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    sender.file("a", 0o600, file(b"a")).await.unwrap();
    let error = sender.file("a", 0o600, file(b"b")).await.unwrap_err();
    assert!(matches!(error, SendError::Misuse(Misuse::Duplicate { .. })), "{error:?}");
    let error = sender.file("../a", 0o600, file(b"b")).await.unwrap_err();
    assert!(matches!(error, SendError::Path(_)), "{error:?}");
    // Neither has harmed the transfer.
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    assert_eq!(sealed.unwrap().root, tree.unwrap().root());
}

#[tokio::test]
async fn a_sender_that_says_nothing_is_given_up() {
    let target = dir();
    let silence = Duration::from_millis(50);
    let limits = Limits { silence, ..Limits::default() };
    let (sender, receiving) = Nodes::new().transfer_within(target.path(), limits).await;
    let error = receiving.verified().await.unwrap_err().error;
    assert!(matches!(error, ReceiveError::Silent { .. }), "{error:?}");
    assert_closed(sender.seal().await.unwrap_err(), CloseCode::Silent);
}

/// A tmpfs of one mebibyte; unmounted when dropped.
struct SmallTmpfs(tempfile::TempDir);

impl SmallTmpfs {
    fn new() -> Option<Self> {
        let at = dir();
        mount("transship-test", at.path(), "tmpfs", MountFlags::empty(), Some(c"size=1m")).ok()?;
        Some(Self(at))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        unmount(self.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
async fn a_full_target_is_told_to_both_ends() {
    let Some(target) = SmallTmpfs::new() else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    let sending = async {
        match sender.file("large", 0o600, file(&noise(1, 8 << 20))).await {
            Ok(()) => sender.seal().await.unwrap_err(),
            Err(error) => error,
        }
    };
    let (sent, received) = tokio::join!(sending, receiving.verified());
    assert!(matches!(&sent, SendError::TargetFull { reason } if reason.contains("large")), "{sent:?}");
    let failed = received.unwrap_err();
    assert!(matches!(failed.error, ReceiveError::TargetFull(_)), "{failed:?}");
}
