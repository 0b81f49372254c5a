//! Workloads with state go to the other node and come back, five times.

use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use transship_lab::{Lab, NodeName, Workload, until};

use crate::evidence::{Counter, Dirty, PATIENCE, Pair};
use crate::node::{agent_with, await_hold, must_run, processes, release, start_pod};
use crate::scenario::{Scenario, scenarios};
use crate::transship::{migrate, migration};

pub fn all() -> Vec<Scenario> {
    scenarios!("moves":
        a_counter_goes_on_where_it_stopped,
        redis_keeps_keys_that_are_in_memory_only,
        postgresql_keeps_committed_rows_and_an_open_transaction,
        a_process_that_dirties_512_mib_finds_every_page_right,
        a_counter_captured_by_the_runtime_s_own_checkpoint_goes_on,
        a_connection_that_nobody_has_accepted_yet_is_no_obstacle,
        two_containers_of_a_pod_go_together,
        a_semaphore_that_two_containers_share_comes_once,
        two_containers_captured_by_the_runtime_s_own_checkpoint_go_together,
    )
}

/// Every leg of five journeys there and back.
fn legs() -> impl Iterator<Item = NodeName> {
    [NodeName::A, NodeName::B].into_iter().cycle().take(10)
}

fn a_counter_goes_on_where_it_stopped(lab: &Lab) -> Result<()> {
    let mut counter = Counter::start_with(lab, NodeName::A, &Counter::workload("counter", 64))?;
    for from in legs() {
        let before = counter.count()?;
        migrate(lab, "counter", from)?;
        counter.runs_on_at(from.peer(), before)?;
    }
    counter.has_written_each_number_once()
}

fn a_counter_captured_by_the_runtime_s_own_checkpoint_goes_on(lab: &Lab) -> Result<()> {
    let mut counter = Counter::start(lab, NodeName::A, "cri")?;
    for from in legs().take(2) {
        let before = counter.count()?;
        migration("cri", from).capture("cri").run(lab)?.succeeded()?;
        counter.runs_on_at(from.peer(), before)?;
    }
    counter.has_written_each_number_once()
}

fn two_containers_of_a_pod_go_together(lab: &Lab) -> Result<()> {
    let mut pair = Pair::start(lab, NodeName::A, "pair")?;
    for from in legs() {
        let before = pair.count()?;
        migrate(lab, "pair", from)?;
        pair.runs_on_at(from.peer(), before)?;
    }
    Ok(())
}

/// Of the IPC namespace that both containers are in, and each one's images hold.
fn a_semaphore_that_two_containers_share_comes_once(lab: &Lab) -> Result<()> {
    let semaphores = |name: NodeName, call: &str| -> Result<String> {
        let node = lab.node(name);
        let keeper = processes(node)?.into_iter().find(|process| process.command.contains("--role=keeper"));
        let namespace = format!("--ipc=/proc/{}/ns/ipc", keeper.context("find the keeper")?.pid);
        Ok(node.run(&["nsenter", &namespace, "sh", "-c", call])?)
    };
    let mut pair = Pair::start(lab, NodeName::A, "pair")?;
    semaphores(NodeName::A, "ipcmk --semaphore 3")?;
    let made = semaphores(NodeName::A, "ipcs --semaphores")?;
    for from in legs().take(2) {
        let before = pair.count()?;
        migrate(lab, "pair", from)?;
        pair.runs_on_at(from.peer(), before)?;
        let now = semaphores(from.peer(), "ipcs --semaphores")?;
        ensure!(now == made, "there was:\n{made}\nnow there is:\n{now}");
    }
    Ok(())
}

/// The kernel takes it for a server that stands still.
fn a_connection_that_nobody_has_accepted_yet_is_no_obstacle(lab: &Lab) -> Result<()> {
    let mut counter = Counter::start(lab, NodeName::A, "counter")?;
    let (a, before) = (lab.node(NodeName::A), counter.count()?);
    let address = must_run(lab, NodeName::A, "counter")?.address;
    agent_with(a, "hold@source:capture")?;
    let underway = migration("counter", NodeName::A).start(lab)?;
    await_hold(a)?;
    let connection = lab.client().in_network(|| TcpStream::connect((address.as_str(), 8080)))?;
    let connection = connection.with_context(|| format!("connect to {address}"))?;
    release(a)?;
    underway.finish()?.succeeded()?;
    drop(connection);
    counter.runs_on_at(NodeName::B, before)
}

/// Which takes no open connections, so that these two don't talk.
fn two_containers_captured_by_the_runtime_s_own_checkpoint_go_together(lab: &Lab) -> Result<()> {
    let (quick, slow) = (["--interval-ms=10", "--mib=1"], ["--mib=1", "--port=8081"]);
    let workload = Workload::new("cri", "counter");
    let pod = start_pod(lab, NodeName::A, &workload, &[("quick", &quick), ("slow", &slow)])?;
    let mut counter = Counter::started(lab, "cri", &pod.address)?;
    for from in legs().take(2) {
        let before = counter.count()?;
        // By one of the two: all that runs in its Pod goes with it.
        migration("slow", from).capture("cri").run(lab)?.succeeded()?;
        counter.runs_on_at(from.peer(), before)?;
        let there = lab.node(from.peer()).cri()?.containers()?;
        ensure!(there.len() == 2, "{} containers have come, not two", there.len());
    }
    counter.has_written_each_number_once()
}

fn a_process_that_dirties_512_mib_finds_every_page_right(lab: &Lab) -> Result<()> {
    let mut dirty = Dirty::start(lab, NodeName::A, "dirty", 512, 100)?;
    for from in legs() {
        let before = dirty.writes()?;
        migrate(lab, "dirty", from)?;
        dirty.is_whole_at(from.peer())?;
        ensure!(dirty.writes()? > before, "it has forgotten what it wrote");
    }
    Ok(())
}

fn redis_keeps_keys_that_are_in_memory_only(lab: &Lab) -> Result<()> {
    const FILL: &str =
        "for i = 1, 10000 do redis.call('SET', 'key:' .. i, 'value ' .. i * i) end return redis.sha1hex('')";
    const SUM: &str = "local s = '' for i = 1, 10000 do s = redis.sha1hex(s .. redis.call('GET', 'key:' .. i)) end return s";
    let call = |address: &str, words: &[&str]| {
        let answer = lab.client().run(&[&["redis-cli", "-h", address], words].concat());
        answer.map(|answer| answer.trim().to_owned())
    };
    let address = lab.start(NodeName::A, &Workload::new("redis", "redis"))?.address;
    until("an answer of redis", PATIENCE, || {
        Ok(call(&address, &["PING"]).ok().filter(|answer| answer == "PONG"))
    })?;
    ensure!(call(&address, &["CONFIG", "GET", "appendonly"])?.ends_with("no"), "redis writes to its disk");
    call(&address, &["EVAL", FILL, "0"])?;
    let sum = call(&address, &["EVAL", SUM, "0"])?;

    for (leg, from) in (1..).zip(legs()) {
        migrate(lab, "redis", from)?;
        let address = must_run(lab, from.peer(), "redis")?.address;
        ensure!(call(&address, &["EVAL", SUM, "0"])? == sum, "redis has other values than before");
        let count = call(&address, &["INCR", "legs"])?;
        ensure!(count == leg.to_string(), "redis has counted {count} legs of {leg}");
    }
    Ok(())
}

/// A server, and a client inside the container whose transaction waits for a file.
const SESSION: &str = "/bin/sh /start &
until psql -h /run/postgresql -U postgres -qc 'SELECT 1' >/dev/null 2>&1; do sleep 0.1; done
(
    echo 'CREATE TABLE moved (what text); BEGIN;'
    echo \"INSERT INTO moved VALUES ('in an open transaction');\"
    until [ -e /tmp/commit ]; do sleep 0.1; done
    echo 'COMMIT;'
) | psql -h /run/postgresql -U postgres -q
wait";

fn postgresql_keeps_committed_rows_and_an_open_transaction(lab: &Lab) -> Result<()> {
    let query = |address: &str, sql: &str| {
        let call = ["psql", "-h", address, "-U", "postgres", "-d", "postgres", "-qAtc", sql];
        lab.client().run(&call).map(|answer| answer.trim().to_owned())
    };
    let workload = Workload::new("postgresql", "postgresql");
    let reference =
        lab.node(NodeName::B).image_of(&workload).and(lab.node(NodeName::A).image_of(&workload))?;
    let a = lab.node(NodeName::A);
    let mut config = workload.container(&reference);
    config.command = ["/bin/sh", "-c", SESSION].map(str::to_owned).to_vec();
    let address = a.cri()?.run(a.prepare(&workload)?, config)?.address;

    const OPEN: &str =
        "SELECT pid, backend_xid, xact_start FROM pg_stat_activity WHERE state = 'idle in transaction'";
    const SEEN: &str = "SELECT string_agg(what, ', ' ORDER BY what) FROM moved";
    let open = until("an open transaction", PATIENCE * 2, || {
        Ok(query(&address, OPEN).ok().filter(|answer| answer.contains('|')))
    })?;
    query(&address, "INSERT INTO moved VALUES ('committed')")?;

    let mut address = address;
    for from in legs() {
        migrate(lab, "postgresql", from)?;
        address = must_run(lab, from.peer(), "postgresql")?.address;
        let now = query(&address, OPEN)?;
        ensure!(now == open, "the open transaction was {open}, now it is {now:?}");
        ensure!(query(&address, SEEN)? == "committed", "what is committed looks otherwise than before");
    }
    let here = must_run(lab, NodeName::A, "postgresql")?;
    lab.node(NodeName::A).run(&["touch", &format!("{BUNDLES}/{}/rootfs/tmp/commit", here.id)])?;
    until("the end of the transaction", PATIENCE, || {
        Ok(query(&address, SEEN).ok().filter(|seen| seen == "committed, in an open transaction"))
    })?;
    Ok(())
}

/// Where containerd keeps the bundles of containers that run.
const BUNDLES: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";
