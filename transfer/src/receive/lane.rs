//! Reading a lane.

use quinn::RecvStream;
use tokio::sync::mpsc;

use super::error::ReceiveError;
use super::place::{Job, Work, check_zero};
use super::shared::Shared;
use crate::core::chunk::ChunkHeader;
use crate::core::frame::Lane;
use crate::core::receive::Admitted;
use crate::quic::streams::FrameReader;

/// Reads a lane to its end, frame by frame, and gives its chunks to the workers.
pub(super) async fn read_lane(
    stream: RecvStream,
    jobs: mpsc::Sender<Job>,
    shared: &Shared,
) -> Result<(), ReceiveError> {
    let mut frames = FrameReader::new(stream);
    while let Some(frame) = frames.next().await? {
        shared.heard();
        match frame {
            Lane::Alive => {}
            Lane::Announce { entry, path, kind } => shared.session().announce(entry, path, kind)?,
            Lane::Chunk(header) => {
                let Some(job) = read_chunk(header, &mut frames, shared).await? else { continue };
                if jobs.send(job).await.is_err() {
                    // The workers are gone, and one of them says why.
                    return Ok(());
                }
            }
            Lane::Finish { entry, size, hash } => shared.session().finish(entry, size, hash)?,
        }
    }
    Ok(())
}

/// Reads a chunk's payload; a job unless nothing has to be written.
async fn read_chunk(
    header: ChunkHeader,
    frames: &mut FrameReader,
    shared: &Shared,
) -> Result<Option<Job>, ReceiveError> {
    let admitted = shared.session().admit(&header)?;
    match admitted {
        Admitted::AlreadyHeld => shared.report(),
        Admitted::LeaveHole(path) => {
            check_zero(&path, &header)?;
            shared.placed(&header);
        }
        Admitted::Clear(path) => return Ok(Some(Job { header, path, work: Work::Clear })),
        Admitted::Place(path) => {
            let mut payload = shared.buffers.buffer();
            frames.exact(&mut payload[..header.payload() as usize]).await?;
            return Ok(Some(Job { header, path, work: Work::Place(payload) }));
        }
    }
    Ok(None)
}
