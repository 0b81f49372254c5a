//! A sender that doesn't keep to the protocol: it is closed with the code for what it did, and nothing is verified.

#![allow(clippy::unwrap_used)] // What fails in a helper fails its test.

mod common;

use std::time::Duration;

use common::hostile::{CHUNK, Hostile, announce, connect, finish, raw_chunk, zeros};
use common::{Ca, Nodes, noise};
use quinn::ConnectionError;
use tempfile::TempDir;
use transship_transfer::Limits;
use transship_transfer::core::chunk::{ChunkHeader, Encoding, EntryId};
use transship_transfer::core::close::CloseCode;
use transship_transfer::core::frame::{Control, Frame, Lane, PREFACE, Seal};
use transship_transfer::core::tree::entry_hash;

/// The bytes of an announcement of `path`, which no honest encoder would give out.
fn announcement_of(path: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 1, 0x80, 1, 0, 0];
    body.extend((path.len() as u16).to_le_bytes());
    body.extend(path);
    let mut frame = vec![0x21];
    frame.extend((body.len() as u16).to_le_bytes());
    frame.extend(body);
    frame
}

async fn hostile() -> Hostile {
    Hostile::new(Limits::default()).await
}

#[tokio::test]
async fn noise_is_a_bad_frame() {
    let mut peer = hostile().await;
    peer.raw(&noise(1, 4096)).await;
    peer.ends_with(CloseCode::BadFrame).await;
}

#[tokio::test]
async fn a_frame_over_its_cap_is_a_bad_frame() {
    let mut peer = hostile().await;
    peer.raw(&[0x23, 0xff, 0xff]).await;
    peer.ends_with(CloseCode::BadFrame).await;
}

#[tokio::test]
async fn a_chunk_that_claims_more_than_a_chunk_is_a_bad_frame() {
    let mut peer = hostile().await;
    peer.say(announce(0, "a")).await;
    peer.say(raw_chunk(u32::MAX, blake3::hash(b""))).await;
    peer.ends_with(CloseCode::BadFrame).await;
}

#[tokio::test]
async fn paths_out_of_the_tree_are_bad_frames_and_make_no_file() {
    for path in [&b"../escaped"[..], b"/tmp/escaped", b"a/../../escaped", b"a\0b", b"\xff"] {
        let mut peer = hostile().await;
        peer.raw(&announcement_of(path)).await;
        let target = peer.ends_with(CloseCode::BadFrame).await;
        assert_eq!(target.path().read_dir().unwrap().count(), 0);
        assert!(!target.path().with_file_name("escaped").exists());
    }
}

#[tokio::test]
async fn a_lane_that_ends_within_a_frame_is_a_bad_frame() {
    let mut peer = hostile().await;
    peer.say(announce(0, "a")).await;
    peer.say(raw_chunk(CHUNK, blake3::hash(b""))).await;
    peer.raw(b"not all of it").await;
    peer.lane.finish().unwrap();
    peer.ends_with(CloseCode::BadFrame).await;
}

#[tokio::test]
async fn a_wrong_hash_is_a_bad_chunk_whatever_the_encoding() {
    let hash = blake3::hash(b"something else");
    let data = noise(1, CHUNK as usize);
    let compressed = zstd::bulk::compress(&[7; CHUNK as usize], 1).unwrap();
    let longer = zstd::bulk::compress(&[0; 2 * CHUNK as usize], 1).unwrap();
    let payload = |data: &[u8]| Encoding::Zstd { payload: data.len() as u32 };
    for (encoding, bytes) in [
        (Encoding::Raw, &data[..]),
        (Encoding::Zero, b""),
        (payload(&compressed), &compressed),
        (payload(&longer), &longer),
        (payload(&data[..100]), &data[..100]),
    ] {
        let mut peer = hostile().await;
        peer.say(announce(0, "a")).await;
        peer.say(Lane::Chunk(ChunkHeader { entry: EntryId(0), index: 0, length: CHUNK, encoding, hash }))
            .await;
        peer.raw(bytes).await;
        peer.ends_with(CloseCode::BadChunk).await;
    }
}

#[tokio::test]
async fn frames_out_of_place_are_named_so() {
    let held = Lane::Chunk(ChunkHeader {
        entry: EntryId(0),
        index: 0,
        length: CHUNK,
        encoding: Encoding::Held,
        hash: blake3::hash(b"never sent"),
    });
    let empty = finish(0, entry_hash(0, []));
    for frames in [
        vec![zeros(0, CHUNK)],
        vec![empty.clone()],
        vec![announce(0, "a"), announce(0, "b")],
        vec![announce(0, "a"), announce(1, "a")],
        vec![announce(0, "a"), zeros(0, CHUNK), zeros(0, CHUNK)],
        vec![announce(0, "a"), zeros(0, 5), zeros(1, 5)],
        vec![announce(0, "a"), empty.clone(), zeros(0, CHUNK)],
        vec![announce(0, "a"), empty.clone(), empty],
        vec![announce(0, "a"), held],
    ] {
        let mut peer = hostile().await;
        for frame in frames {
            peer.say(frame).await;
        }
        peer.ends_with(CloseCode::OutOfPlace).await;
    }
}

#[tokio::test]
async fn an_end_that_does_not_fit_is_a_bad_seal() {
    let hash = blake3::hash(b"");
    for frames in [
        // A chunk is missing; the short one isn't the last; the size is another; the hash is another.
        vec![announce(0, "a"), zeros(1, CHUNK), finish(2 * u64::from(CHUNK), hash)],
        vec![announce(0, "a"), zeros(0, 5), zeros(1, CHUNK), finish(u64::from(CHUNK) + 5, hash)],
        vec![announce(0, "a"), zeros(0, 5), finish(6, hash)],
        vec![announce(0, "a"), zeros(0, 5), finish(5, hash)],
    ] {
        let mut peer = hostile().await;
        for frame in frames {
            peer.say(frame).await;
        }
        peer.ends_with(CloseCode::BadSeal).await;
    }
}

async fn sealed(frames: &[Lane], seal: Seal) -> TempDir {
    let mut peer = hostile().await;
    for frame in frames {
        peer.say(frame.clone()).await;
    }
    peer.lane.finish().unwrap();
    let mut bytes = Vec::new();
    Control::Seal(seal).encode(&mut bytes);
    peer.control.write_all(&bytes).await.unwrap();
    peer.ends_with(CloseCode::BadSeal).await
}

#[tokio::test]
async fn a_seal_over_another_tree_is_a_bad_seal() {
    let root = blake3::hash(b"another tree");
    sealed(&[], Seal { root, entries: 0, bytes: 0, lanes: 1 }).await;
    sealed(&[], Seal { root, entries: u32::MAX, bytes: u64::MAX, lanes: 1 }).await;
    sealed(&[announce(0, "a")], Seal { root, entries: 1, bytes: 0, lanes: 1 }).await;
}

#[tokio::test]
async fn more_lanes_than_sealed_are_too_much() {
    let mut peer = hostile().await;
    peer.say(announce(0, "a")).await;
    let mut second = peer.connection.open_uni().await.unwrap();
    second.write_all(&[0x21]).await.unwrap();
    let mut bytes = Vec::new();
    Control::Seal(Seal { root: blake3::hash(b""), entries: 1, bytes: 0, lanes: 1 }).encode(&mut bytes);
    peer.control.write_all(&bytes).await.unwrap();
    peer.ends_with(CloseCode::TooMuch).await;
}

#[tokio::test]
async fn more_entries_or_more_zeros_than_the_limit_are_too_much() {
    let mut peer = Hostile::new(Limits { max_entries: 100, ..Limits::default() }).await;
    for entry in 0..=100 {
        peer.say(announce(entry, &format!("f{entry}"))).await;
    }
    peer.ends_with(CloseCode::TooMuch).await;

    let limits = Limits { max_bytes: 100 * u64::from(CHUNK), ..Limits::default() };
    let mut peer = Hostile::new(limits.clone()).await;
    peer.say(announce(0, "endless")).await;
    for index in 0..=100 {
        peer.say(zeros(index, CHUNK)).await;
    }
    peer.ends_with(CloseCode::TooMuch).await;

    let mut peer = Hostile::new(limits).await;
    peer.say(announce(0, "far")).await;
    peer.say(zeros(u32::MAX, CHUNK)).await;
    peer.ends_with(CloseCode::TooMuch).await;
}

#[tokio::test]
async fn a_sender_that_says_it_is_there_is_waited_for() {
    let mut peer = Hostile::new(Limits { silence: Duration::from_millis(300), ..Limits::default() }).await;
    for _ in 0..10 {
        peer.say(Lane::Alive).await;
        let closed = tokio::time::timeout(Duration::from_millis(100), peer.connection.closed()).await;
        assert!(closed.is_err(), "{closed:?}");
    }
    peer.ends_with(CloseCode::Silent).await;
}

#[tokio::test]
async fn a_first_stream_that_is_something_else_is_not_listened_to() {
    let ca = Ca::new();
    let newer = [&PREFACE[..8], &[2, 0]].concat();
    let mut seal = PREFACE.to_vec();
    Control::Seal(Seal { root: blake3::hash(b""), entries: 0, bytes: 0, lanes: 0 }).encode(&mut seal);
    for (opening, expected) in [
        (newer, CloseCode::Version),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), CloseCode::BadFrame),
        (seal, CloseCode::OutOfPlace),
    ] {
        let mut nodes = Nodes::of_ca(&ca, common::endpoint);
        let mut listener = std::mem::replace(&mut nodes.listener, nodes.b.listen());
        let opening = async {
            let (_endpoint, connection) = connect(&ca, &nodes).await;
            let (mut control, _answers) = connection.open_bi().await.unwrap();
            control.write_all(&opening).await.unwrap();
            connection.closed().await
        };
        let (closed, accepted) = tokio::join!(opening, listener.accept());
        accepted.unwrap().unwrap_err();
        match closed {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(CloseCode::from_wire(close.error_code.into_inner()), expected);
            }
            error => panic!("{error:?}"),
        }
    }
}
