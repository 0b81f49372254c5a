//! Workloads with state go to the other node and come back, five times.

use anyhow::{Result, ensure};
use transship_lab::{Lab, NodeName, Workload, until};

use crate::evidence::{Counter, Dirty, PATIENCE};
use crate::node::must_run;
use crate::scenario::{Scenario, scenarios};
use crate::transship::{migrate, migration};

pub fn all() -> Vec<Scenario> {
    scenarios!("moves":
        a_counter_goes_on_where_it_stopped,
        redis_keeps_keys_that_are_in_memory_only,
        postgresql_keeps_committed_rows_and_an_open_transaction,
        a_process_that_dirties_512_mib_finds_every_page_right,
        a_counter_captured_by_the_runtime_s_own_checkpoint_goes_on,
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
