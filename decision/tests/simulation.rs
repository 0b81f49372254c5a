//! Many migrations with everything that can go wrong, in virtual time: the machines, the record and the
//! markers are the real ones; disks, processes, CRIU, kubelets and the network are models (`sim/`).
//!
//! Every seed is one migration. It is judged by what the workload itself shows (it counts, one number a
//! millisecond while it runs) and by what must never be; see `sim/judge.rs`. `TRANSSHIP_SIM_SEEDS` sets how
//! many seeds are tried (2,000), `TRANSSHIP_SIM_SEED` tries one and prints what happened.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a model that can not go on ends")]

mod sim;

use sim::{Mutant, World};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn one_copy_lives() {
    if let Some(seed) = number("TRANSSHIP_SIM_SEED") {
        let (ending, trace) = World::new(seed, Mutant::None).run();
        panic!("{}\n{ending:?}", trace.join("\n"));
    }
    let mut endings = std::collections::BTreeMap::<&str, u64>::new();
    for seed in 0..number("TRANSSHIP_SIM_SEEDS").unwrap_or(2_000) {
        let (ending, trace) = World::new(seed, Mutant::None).run();
        match ending {
            Ok(ending) => *endings.entry(ending).or_default() += 1,
            Err(violation) => panic!("seed {seed}: {violation}\n{}", trace.join("\n")),
        }
    }
    println!("{endings:?}");
    // A simulation in which nothing goes well, or nothing goes wrong, shows nothing.
    for ending in ["released", "kept", "kept, started anew", "unfinished"] {
        assert!(endings.contains_key(ending), "never: {ending}, of {endings:?}");
    }
}

/// The simulation notices what it is there to notice: each of these is wrong in one way.
#[test]
fn a_wrong_system_is_found_out() {
    for mutant in Mutant::ALL {
        let found = (0..20_000).find_map(|seed| World::new(seed, *mutant).run().0.err().map(|v| (seed, v)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutant:?} was not found out"));
        println!("{mutant:?}: seed {seed}: {violation}");
    }
}
