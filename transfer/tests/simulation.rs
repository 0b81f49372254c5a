//! Both ends' cores against each other, without a network or a clock: frames are encoded, travel on lanes that run at
//! different speeds, and the line is cut wherever the script says. Every run is decided by its script alone.

#![allow(clippy::unwrap_used)] // What fails in a helper fails its test.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use transship_transfer::core::chunk::{self, ChunkHeader, Encoding, EntryId, is_zero, zero_hash};
use transship_transfer::core::frame::{Answer, Frame, Lane, Prefix, Seal};
use transship_transfer::core::held::HeldChunks;
use transship_transfer::core::receive::{Admitted, ReceiveSession, Verified};
use transship_transfer::core::send::SendSession;
use transship_transfer::core::tree::EntryKind;
use transship_transfer::{Hash, Limits, TransferBytes, TreePath};

const CHUNK: usize = chunk::CHUNK_BYTES;

/// What a chunk of the simulated tree holds: a byte, repeated. Zero is zero.
type Files = BTreeMap<TreePath, Vec<u8>>;

/// The content of chunk `fill` of a file: only the last may be short, and it is.
fn content(fill: u8, last: bool) -> Vec<u8> {
    vec![fill; if last { 777 } else { CHUNK }]
}

/// Hashes of all contents, so that a run needn't hash megabytes.
fn hash(fill: u8, last: bool) -> Hash {
    thread_local! {
        static HASHES: std::cell::RefCell<BTreeMap<(u8, bool), Hash>> = const { std::cell::RefCell::new(BTreeMap::new()) };
    }
    HASHES.with_borrow_mut(|hashes| {
        *hashes.entry((fill, last)).or_insert_with(|| blake3::hash(&content(fill, last)))
    })
}

/// What lies at the target: by entry and chunk, the byte it is filled with.
#[derive(Default)]
struct Disk(BTreeMap<(TreePath, u32), u8>);

/// The sender's half of a connection: what each lane has still to deliver.
struct Line {
    lanes: Vec<VecDeque<(Vec<u8>, u8)>>,
    seal: Seal,
    bytes: TransferBytes,
}

fn send(files: &Files, held: HeldChunks, lanes: usize) -> Line {
    let mut session = SendSession::new(held);
    let mut queues = vec![VecDeque::new(); lanes];
    for (path, fills) in files {
        let (id, announced) = session.announce(path.clone(), EntryKind::File { mode: 0o600 }).unwrap();
        let queue: &mut VecDeque<_> = &mut queues[id.0 as usize % lanes];
        let mut say = |frame: Lane, payload| {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            queue.push_back((bytes, payload));
        };
        say(announced, 0);
        for (index, &fill) in (0..).zip(fills) {
            let header = header(&session, id, index, fill, index as usize + 1 == fills.len());
            session.chunk(&header);
            say(Lane::Chunk(header), fill);
        }
        say(session.finish(id, size(fills)).unwrap(), 0);
    }
    let seal = session.seal(lanes as u16).unwrap();
    Line { lanes: queues, seal, bytes: session.bytes() }
}

fn size(fills: &[u8]) -> u64 {
    fills.len().checked_sub(1).map_or(0, |whole| (whole * CHUNK + 777) as u64)
}

fn header(session: &SendSession, entry: EntryId, index: u32, fill: u8, last: bool) -> ChunkHeader {
    let hash = hash(fill, last);
    let encoding = match fill {
        0 => Encoding::Zero,
        _ if session.is_held(entry, index, hash) => Encoding::Held,
        _ => Encoding::Raw,
    };
    ChunkHeader { entry, index, length: if last { 777 } else { CHUNK as u32 }, encoding, hash }
}

/// One step of the receiver.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The next frame of this lane arrives.
    Deliver(usize),
    /// The oldest chunk in hand is verified and placed.
    Place,
}

/// The receiver's half of a connection.
struct Receiver<'a> {
    session: ReceiveSession,
    in_hand: VecDeque<(ChunkHeader, Admitted, u8)>,
    disk: &'a mut Disk,
}

impl Receiver<'_> {
    fn deliver(&mut self, (bytes, fill): (Vec<u8>, u8)) {
        let (prefix, body) = bytes.split_first_chunk().unwrap();
        match Lane::decode(Prefix::decode::<Lane>(*prefix).unwrap().tag, body).unwrap() {
            Lane::Alive => {}
            Lane::Announce { entry, path, kind } => self.session.announce(entry, path, kind).unwrap(),
            Lane::Chunk(header) => match self.session.admit(&header).unwrap() {
                Admitted::AlreadyHeld => {}
                admitted => self.in_hand.push_back((header, admitted, fill)),
            },
            Lane::Finish { entry, size, hash } => self.session.finish(entry, size, hash).unwrap(),
        }
    }

    fn place(&mut self) {
        let Some((header, admitted, fill)) = self.in_hand.pop_front() else { return };
        match admitted {
            Admitted::Place(path) => {
                self.disk.0.insert((path, header.index), fill);
            }
            Admitted::Clear(path) => {
                self.disk.0.remove(&(path, header.index));
            }
            Admitted::LeaveHole(path) => {
                assert!(!self.disk.0.contains_key(&(path, header.index)), "no hole there")
            }
            Admitted::AlreadyHeld => unreachable!("never in hand"),
        }
        self.session.placed(&header);
    }
}

/// Runs one connection for as long as the script lasts, or to its end if there is none.
fn connect(
    files: &Files,
    held: Option<HeldChunks>,
    disk: &mut Disk,
    script: Option<&[Step]>,
    lanes: usize,
) -> Outcome {
    // The sender learns what is held from frames, as it would.
    let mut told = HeldChunks::default();
    for answer in held.iter().flat_map(HeldChunks::frames) {
        let mut bytes = Vec::new();
        answer.encode(&mut bytes);
        let Answer::Held { path, first, hashes } = Answer::decode(bytes[0], &bytes[Prefix::BYTES..]).unwrap()
        else {
            panic!("{answer:?}")
        };
        told.insert_run(&path, first, &hashes).unwrap();
    }
    let mut line = send(files, told, lanes);
    let session = match held {
        Some(held) => ReceiveSession::resume(Limits::default(), held),
        None => ReceiveSession::new(Limits::default()),
    };
    let mut receiver = Receiver { session, in_hand: VecDeque::new(), disk };

    for step in script.unwrap_or_default() {
        match *step {
            Step::Deliver(lane) => {
                if let Some(frame) = line.lanes[lane % lanes].pop_front() {
                    receiver.deliver(frame);
                }
            }
            Step::Place => receiver.place(),
        }
    }
    if script.is_some() {
        // The line is cut: what is in hand may or may not be placed, and a worker that was at it may have got half way.
        for (header, admitted, _) in std::mem::take(&mut receiver.in_hand) {
            if let Admitted::Place(path) = admitted {
                receiver.disk.0.insert((path, header.index), 0xff);
            }
        }
        return Outcome::Cut(receiver.session.into_held());
    }
    for lane in line.lanes {
        lane.into_iter().for_each(|frame| receiver.deliver(frame));
    }
    while !receiver.in_hand.is_empty() {
        receiver.place();
    }
    let verified = receiver.session.verify(&line.seal).unwrap();
    assert_eq!(receiver.session.bytes(), line.bytes);
    Outcome::Sealed(verified, line.bytes)
}

enum Outcome {
    Cut(HeldChunks),
    Sealed(Verified, TransferBytes),
}

fn files() -> impl Strategy<Value = Files> {
    // Few values, so that a chunk that changed is sometimes what it was before; 0 is a zero chunk.
    let fills = prop::collection::vec(0..4u8, 0..12);
    prop::collection::btree_map("[a-d]".prop_map(|name| TreePath::new(&name).unwrap()), fills, 0..4)
}

fn script() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![2 => (0..3usize).prop_map(Step::Deliver), 1 => Just(Step::Place)],
        0..60,
    )
}

fn lies_there(mut disk: Disk, verified: &Verified, files: &Files) -> Result<(), TestCaseError> {
    disk.0.retain(|(path, _), _| !verified.leftovers.contains(path));
    prop_assert!(disk.0.keys().all(|(path, _)| files.contains_key(path)));
    for (path, fills) in files {
        for (index, fill) in (0..).zip(fills) {
            let there = disk.0.get(&(path.clone(), index)).copied().unwrap_or(0);
            prop_assert_eq!(there, *fill, "chunk {} of {}", index, path);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn after_any_cuts_the_tree_arrives_and_what_was_placed_is_not_sent_again(
        files in files(),
        cuts in prop::collection::vec(script(), 0..5),
        lanes in 1..4usize,
    ) {
        let mut disk = Disk::default();
        let mut held: Option<HeldChunks> = None;
        for script in &cuts {
            let Outcome::Cut(now) = connect(&files, held.clone(), &mut disk, Some(script), lanes) else { unreachable!() };
            // A try never loses what an earlier one won.
            prop_assert!(now.len() >= held.as_ref().map_or(0, HeldChunks::len));
            held = Some(now);
        }
        let missing = |path: &TreePath, fills: &[u8]| -> u64 {
            let last = fills.len().saturating_sub(1);
            (0..).zip(fills).filter(|(_, fill)| **fill != 0).map(|(index, fill)| {
                let last = index as usize == last;
                let there = held.as_ref().and_then(|held| held.get(path, index)) == Some(hash(*fill, last));
                if there { 0 } else { content(*fill, last).len() as u64 }
            }).sum()
        };
        let missing: u64 = files.iter().map(|(path, fills)| missing(path, fills)).sum();
        let Outcome::Sealed(verified, bytes) = connect(&files, held.clone(), &mut disk, None, lanes) else { unreachable!() };
        lies_there(disk, &verified, &files)?;
        prop_assert_eq!(verified.entries.len(), files.len());
        prop_assert_eq!(bytes.total, files.values().map(|fills| size(fills)).sum::<u64>());
        prop_assert_eq!(bytes.sent + bytes.zero + bytes.deduplicated, bytes.total);
        prop_assert_eq!(bytes.sent, missing);
    }

    #[test]
    fn a_tree_that_changed_between_two_tries_arrives_as_it_is_now(
        before in files(),
        after in files(),
        cut in script(),
        lanes in 1..4usize,
    ) {
        let mut disk = Disk::default();
        let Outcome::Cut(held) = connect(&before, None, &mut disk, Some(&cut), lanes) else { unreachable!() };
        let Outcome::Sealed(verified, _) = connect(&after, Some(held), &mut disk, None, lanes) else { unreachable!() };
        lies_there(disk, &verified, &after)?;
        prop_assert_eq!(verified.entries.len(), after.len());
    }
}

#[test]
fn the_simulated_contents_are_what_their_frames_say() {
    assert!(is_zero(&content(0, false)) && is_zero(&content(0, true)));
    assert_eq!(hash(0, true), zero_hash(777));
    assert_eq!(hash(3, false), blake3::hash(&content(3, false)));
}
