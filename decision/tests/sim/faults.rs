use super::world::{Event, Side, World};

/// Ways in which the system could be wrong, each of which the simulation has to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    None,
    /// The source agent thaws first, and decides then.
    ThawsWithoutRecord,
    /// It doesn't look whether the source stands still.
    SkipsCheckStill,
    /// It follows its wish, whatever record stands.
    FollowsItsWish,
    /// It thaws when it is cancelled, also after `released`.
    CancelsAfterReleased,
    /// It thaws the source and kills it then.
    ThawsToKill,
    /// It takes what a killed CRIU left for whole.
    TrustsVoidImages,
    /// A recovery takes any answer of the target for a sealed tree.
    RecoversUnsealed,
    /// A recovery keeps what is gone although the target holds it.
    RecoversByKeeping,
    /// Two workers take up the same migration without a lock, and the second writes what it likes.
    ReplacesRecords,
    /// The target lets the container run as soon as it is held.
    ResumesWithoutRecord,
    /// The target restores once more after it has let run.
    LowersExpectedLast,
    /// The target discards when it has been held for long.
    DiscardsOnItsOwn,
    /// The wrapper on the source doesn't know of fences.
    IgnoresFences,
    /// The wrapper on the target creates when the agent is away.
    FailsOpen,
    /// The watchdog thaws at the budget's end, whatever stands.
    WatchdogThawsAlways,
    /// There is none.
    NoWatchdog,
    /// The watchdog thaws without a look at CRIU, and goes away.
    WatchdogForgetsCriu,
}

impl Mutant {
    pub const ALL: &[Mutant] = &[
        Mutant::ThawsWithoutRecord,
        Mutant::SkipsCheckStill,
        Mutant::FollowsItsWish,
        Mutant::CancelsAfterReleased,
        Mutant::ThawsToKill,
        Mutant::TrustsVoidImages,
        Mutant::RecoversUnsealed,
        Mutant::RecoversByKeeping,
        Mutant::ReplacesRecords,
        Mutant::ResumesWithoutRecord,
        Mutant::LowersExpectedLast,
        Mutant::DiscardsOnItsOwn,
        Mutant::IgnoresFences,
        Mutant::FailsOpen,
        Mutant::WatchdogThawsAlways,
        Mutant::NoWatchdog,
        Mutant::WatchdogForgetsCriu,
    ];
}

/// Nothing new goes wrong after this. What has gone wrong may still take a while to be mended.
pub const FAULTS_END: u64 = 20_000;

/// What goes wrong in this seed, and when. Half of the seeds have one fault or none: a migration with many
/// seldom gets far.
pub fn plan(world: &mut World) {
    let faults = match world.rng.u32(0..10) {
        0 => 0,
        1..=4 => 1,
        5..=7 => 2,
        _ => world.rng.usize(3..6),
    };
    for _ in 0..faults {
        // A migration takes some 300 ms where nothing holds it up: that is where faults are interesting.
        let at = if world.rng.u32(0..4) > 0 { world.rng.u64(0..600) } else { world.rng.u64(0..FAULTS_END) };
        let event = match world.rng.u32(0..14) {
            0..=2 => Event::AgentDies(Side::Source),
            3..=5 => Event::AgentDies(Side::Target),
            6 => Event::CriuDies,
            7 => Event::SourceDies,
            8 => Event::SourceReboots,
            9 => Event::Cancel,
            10 => Event::HeldDies,
            11 => Event::WrapperDies,
            12 => Event::SomebodyThaws,
            _ => Event::DiskFails(if world.rng.bool() { Side::Source } else { Side::Target }),
        };
        world.at(at, event);
    }
    world.loss = if world.rng.bool() { 0 } else { world.rng.u32(0..40) };
    world.stalls = world.rng.u32(0..3) == 0;
}
