//! Faults made on purpose: damage on the way, a line that goes dead, and going on after it.

#![allow(clippy::unwrap_used)] // What fails in a helper fails its test.

mod common;

use std::fs;
use std::path::Path;

use common::{Nodes, dir, file, impatient, noise, text};
use transship_transfer::core::close::CloseCode;
use transship_transfer::faults::Faults;
use transship_transfer::quic::LinkError;
use transship_transfer::{Failed, Limits, ReceiveError, SendError, Sender};

const CHUNK: usize = 256 * 1024;

/// Sends `content` as one file with `faults`; what either end gets.
async fn send(content: &[u8], faults: Faults, into: &Path) -> (SendError, Failed) {
    let mut nodes = Nodes::of(impatient);
    let (a, address) = (nodes.a.clone(), nodes.b.local_address().unwrap());
    let sending = async {
        let connection = a.connect(address, "b").await.unwrap();
        let sender = Sender::open_with_faults(connection, "ticket".into(), faults, &a).await.unwrap();
        match sender.file("pages-1.img", 0o600, file(content)).await {
            Ok(()) => sender.seal().await.unwrap_err(),
            Err(error) => error,
        }
    };
    let receiving = async {
        let incoming = nodes.listener.accept().await.unwrap().unwrap();
        incoming.accept(into, Limits::default()).await.unwrap().verified().await.unwrap_err()
    };
    tokio::join!(sending, receiving)
}

#[tokio::test]
async fn one_flipped_bit_is_found_and_nothing_is_verified() {
    for content in [noise(1, 8 * CHUNK), text(1, 8 * CHUNK)] {
        let target = dir();
        let faults = Faults { flip_bit_in_chunk: Some(5), ..Faults::default() };
        let (sent, failed) = send(&content, faults, target.path()).await;
        match sent {
            SendError::Link(LinkError::Closed { code: CloseCode::BadChunk, reason }) => {
                assert!(reason.contains("pages-1.img"), "{reason}");
            }
            error => panic!("{error:?}"),
        }
        assert!(matches!(failed.error, ReceiveError::ChunkMismatch { .. }), "{failed:?}");
    }
}

#[tokio::test]
async fn a_line_that_goes_dead_is_lost_to_both_ends() {
    let target = dir();
    let faults = Faults { cut_before_chunk: Some(5), ..Faults::default() };
    let (sent, failed) = send(&noise(1, 64 * CHUNK), faults, target.path()).await;
    assert!(matches!(sent, SendError::Link(LinkError::Lost(_))), "{sent:?}");
    assert!(matches!(failed.error, ReceiveError::Link(LinkError::Lost(_))), "{failed:?}");
    assert_eq!(failed.partial.unwrap().dir(), target.path());
}

#[tokio::test]
async fn what_arrived_before_a_cut_is_not_sent_again() {
    let target = dir();
    let content = noise(1, 140 * CHUNK + 99);
    // A sender holds 16 MiB until they are acknowledged: of 100 chunks, 36 at least have arrived by then.
    let faults = Faults { cut_before_chunk: Some(100), ..Faults::default() };
    let (_, failed) = send(&content, faults, target.path()).await;
    let partial = failed.partial.unwrap();
    let held = partial.chunks();
    assert!((30..=100).contains(&held), "{held}");

    let mut nodes = Nodes::new();
    let (sender, incoming) = nodes.meet("ticket").await;
    let receiving = incoming.unwrap().resume(partial).await.unwrap();
    let sender = sender.await.unwrap().unwrap();
    sender.file("pages-1.img", 0o600, file(&content)).await.unwrap();
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    let (sealed, tree) = (sealed.unwrap(), tree.unwrap());
    assert_eq!(sealed.root, tree.root());
    assert_eq!(sealed.bytes, tree.bytes());
    assert_eq!(sealed.bytes.deduplicated as usize, held * CHUNK);
    assert_eq!(sealed.bytes.sent + sealed.bytes.deduplicated, content.len() as u64);
    assert!(fs::read(target.path().join("pages-1.img")).unwrap() == content);
}

#[tokio::test]
async fn what_changed_between_two_tries_is_sent_and_what_became_zero_is_zero() {
    let target = dir();
    let mut content = noise(1, 8 * CHUNK);
    let faults = Faults { flip_bit_in_chunk: Some(7), ..Faults::default() };
    let partial = send(&content, faults, target.path()).await.1.partial.unwrap();

    content[..CHUNK].copy_from_slice(&noise(2, CHUNK));
    content[CHUNK..2 * CHUNK].fill(0);
    content.truncate(6 * CHUNK + 5);
    let mut nodes = Nodes::new();
    let (sender, incoming) = nodes.meet("ticket").await;
    let receiving = incoming.unwrap().resume(partial).await.unwrap();
    let sender = sender.await.unwrap().unwrap();
    sender.file("pages-1.img", 0o600, file(&content)).await.unwrap();
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    assert_eq!(sealed.unwrap().root, tree.unwrap().root());
    assert!(fs::read(target.path().join("pages-1.img")).unwrap() == content);
}
