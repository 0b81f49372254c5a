//! Frames on streams.

use quinn::{ReadExactError, RecvStream};

use super::LinkError;
use crate::core::frame::{self, Frame, FrameError, PREFACE, Prefix};

/// A stream doesn't give the frame that was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Reads frames of one family off a stream. It holds at most one frame's body.
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: RecvStream,
    body: Vec<u8>,
}

impl FrameReader {
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, body: Vec::new() }
    }

    /// Reads the preface and checks it.
    pub async fn preface(&mut self) -> Result<(), StreamError> {
        let mut preface = [0; PREFACE.len()];
        self.exact(&mut preface).await?;
        Ok(frame::check_preface(preface)?)
    }

    /// Reads the next frame; `None` at the stream's end. Not cancel-safe.
    pub async fn next<F: Frame>(&mut self) -> Result<Option<F>, StreamError> {
        let mut prefix = [0; Prefix::BYTES];
        match self.stream.read_exact(&mut prefix).await {
            Ok(()) => {}
            Err(ReadExactError::FinishedEarly(0)) => return Ok(None),
            Err(ReadExactError::FinishedEarly(_)) => return Err(FrameError::Truncated.into()),
            Err(ReadExactError::ReadError(error)) => return Err(LinkError::from(error).into()),
        }
        let prefix = Prefix::decode::<F>(prefix)?;
        let mut body = std::mem::take(&mut self.body);
        body.resize(prefix.body, 0);
        let read = self.exact(&mut body).await;
        self.body = body;
        read?;
        Ok(Some(F::decode(prefix.tag, &self.body)?))
    }

    /// Reads bytes that aren't a frame until `bytes` is full. Not cancel-safe.
    pub async fn exact(&mut self, bytes: &mut [u8]) -> Result<(), StreamError> {
        match self.stream.read_exact(bytes).await {
            Ok(()) => Ok(()),
            Err(ReadExactError::FinishedEarly(_)) => Err(FrameError::Truncated.into()),
            Err(ReadExactError::ReadError(error)) => Err(LinkError::from(error).into()),
        }
    }
}
