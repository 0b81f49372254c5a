//! Trees that arrive, over real QUIC on loopback.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use common::{Nodes, dir, file, noise, text};
use transship_transfer::{Compression, EntryKind, Sender, TransferBytes};

const CHUNK: usize = 256 * 1024;

#[tokio::test]
async fn a_small_tree_arrives_with_its_modes_and_both_ends_name_the_same_root() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    sender.file("inventory.img", 0o600, file(b"small")).await.unwrap();
    sender.file("rootfs/usr/bin/tool", 0o755, file(&text(1, 3 * CHUNK + 17))).await.unwrap();
    sender.file("empty", 0o644, file(b"")).await.unwrap();
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    let (sealed, tree) = (sealed.unwrap(), tree.unwrap());

    assert_eq!(sealed.root, tree.root());
    assert_eq!(sealed.bytes, tree.bytes());
    assert_eq!(tree.dir(), target.path());
    let listed: Vec<_> = tree.entries().iter().map(|e| (e.path.as_str(), e.kind, e.size)).collect();
    assert_eq!(
        listed,
        [
            ("empty", EntryKind::File { mode: 0o644 }, 0),
            ("inventory.img", EntryKind::File { mode: 0o600 }, 5),
            ("rootfs/usr/bin/tool", EntryKind::File { mode: 0o755 }, 3 * CHUNK as u64 + 17),
        ]
    );
    let tool = target.path().join("rootfs/usr/bin/tool");
    assert_eq!(fs::read(&tool).unwrap(), text(1, 3 * CHUNK + 17));
    assert_eq!(fs::metadata(&tool).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(fs::read(target.path().join("inventory.img")).unwrap(), b"small");
    assert_eq!(fs::read(target.path().join("empty")).unwrap(), b"");
}

#[tokio::test]
async fn an_empty_tree_arrives() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    assert_eq!(sealed.unwrap().root, tree.unwrap().root());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_mebibytes_arrive_whole() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    let content = [noise(1, 40 << 20), text(2, 24 << 20)].concat();
    sender.file("pages-1.img", 0o600, file(&content)).await.unwrap();
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    assert_eq!(sealed.unwrap().root, tree.unwrap().root());
    assert!(fs::read(target.path().join("pages-1.img")).unwrap() == content);
}

#[tokio::test]
async fn zeros_are_not_sent_and_leave_holes() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    let mut content = vec![0; 40 * CHUNK + 100];
    content[7 * CHUNK..8 * CHUNK].copy_from_slice(&noise(3, CHUNK));
    sender.file("pages-1.img", 0o600, file(&content)).await.unwrap();
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    tree.unwrap();
    let chunk = CHUNK as u64;
    assert_eq!(
        sealed.unwrap().bytes,
        TransferBytes { total: 40 * chunk + 100, sent: chunk, zero: 39 * chunk + 100, deduplicated: 0 }
    );
    let placed = target.path().join("pages-1.img");
    assert!(fs::metadata(&placed).unwrap().blocks() * 512 <= 2 * chunk);
    assert!(fs::read(placed).unwrap() == content);
}

#[tokio::test]
async fn what_compresses_is_sent_compressed_and_noise_is_sent_raw() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    sender.compress(Compression::Always);
    sender.file("text", 0o600, file(&text(1, 16 * CHUNK))).await.unwrap();
    sender.file("noise", 0o600, file(&noise(1, 16 * CHUNK))).await.unwrap();
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    let bytes = sealed.unwrap().bytes;
    let text = bytes.sent as usize - 16 * CHUNK;
    assert!((CHUNK..8 * CHUNK).contains(&text), "{text}");
    assert_eq!(bytes, tree.unwrap().bytes());
}

#[tokio::test]
async fn a_growing_file_is_sent_while_it_grows() {
    let target = dir();
    let (sender, receiving) = Nodes::new().transfer(target.path()).await;
    let source = dir();
    let path = source.path().join("pages-1.img");
    let mut writer = File::create(&path).unwrap();
    let follow = sender.follow("pages-1.img", 0o600, File::open(&path).unwrap()).await.unwrap();

    let content = noise(5, 5 * CHUNK + 1234);
    let mut arrived = receiving.progress();
    for (round, part) in content.chunks(2 * CHUNK).enumerate() {
        writer.write_all(part).unwrap();
        // Whole chunks arrive before the writer goes on: nothing is waited for but the next byte.
        let whole = ((round + 1) * 2 * CHUNK).min(5 * CHUNK) as u64;
        arrived.wait_for(|bytes| bytes.total == whole).await.unwrap();
    }
    drop(writer);
    assert_eq!(follow.finish().await.unwrap(), content.len() as u64);
    let (sealed, tree) = tokio::join!(sender.seal(), receiving.verified());
    assert_eq!(sealed.unwrap().root, tree.unwrap().root());
    assert!(fs::read(target.path().join("pages-1.img")).unwrap() == content);
}

#[tokio::test]
async fn the_receiver_knows_who_asks_and_why() {
    let mut nodes = Nodes::new();
    let (_sender, incoming) = nodes.meet("migration 17").await;
    let incoming = incoming.unwrap();
    assert_eq!(incoming.peer().name, "a");
    assert_eq!(incoming.ticket().as_ref(), b"migration 17");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_can_be_sent_at_once_and_transfers_share_an_endpoint() {
    let mut nodes = Nodes::new();
    let (one, other) = (dir(), dir());
    let (sender_1, receiving_1) = nodes.transfer(one.path()).await;
    let (sender_2, receiving_2) = nodes.transfer(other.path()).await;
    let send = async |sender: Sender, seed| {
        let files: [_; 3] = std::array::from_fn(|n| noise(seed + n as u64, (n + 1) * CHUNK));
        tokio::try_join!(
            sender.file("f0", 0o600, file(&files[0])),
            sender.file("f1", 0o600, file(&files[1])),
            sender.file("f2", 0o600, file(&files[2])),
        )
        .unwrap();
        sender.seal().await.unwrap().root
    };
    let (root_1, root_2, tree_1, tree_2) =
        tokio::join!(send(sender_1, 10), send(sender_2, 20), receiving_1.verified(), receiving_2.verified());
    assert_eq!(root_1, tree_1.unwrap().root());
    assert_eq!(root_2, tree_2.unwrap().root());
    assert_ne!(root_1, root_2);
    assert_eq!(fs::read(other.path().join("f2")).unwrap(), noise(22, 3 * CHUNK));
}

#[tokio::test]
async fn a_ticket_of_four_kilobytes_is_the_longest() {
    let mut nodes = Nodes::new();
    let (_sender, incoming) = nodes.meet(vec![7; 4096]).await;
    assert_eq!(incoming.unwrap().ticket().len(), 4096);

    let (a, address) = (nodes.a.clone(), nodes.b.local_address().unwrap());
    let too_long =
        async move { Sender::open(a.connect(address, "b").await.unwrap(), vec![7; 4097].into()).await };
    tokio::select! {
        sender = too_long => {
            let error = sender.unwrap_err();
            assert_eq!(error.to_string(), "a ticket of 4097 bytes is too long, the most is 4096");
        }
        incoming = nodes.listener.accept() => panic!("{incoming:?}"),
    }
}
