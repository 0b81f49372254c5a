mod container;
mod disk;
mod faults;
mod judge;
mod net;
mod restored;
mod source;
mod target;
mod watch;
mod world;

pub use faults::Mutant;
pub use world::World;
