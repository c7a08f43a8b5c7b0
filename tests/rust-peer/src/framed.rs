//! The request-response codec: each way one frame, which is its length as an unsigned varint and then that many bytes.

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{StreamProtocol, request_response};
use std::io;

/// The longest frame taken from the other side. A test which needs more has outgrown one frame.
const MAX_FRAME_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes in, bytes out; what they mean is up to the test.
#[derive(Clone, Default)]
pub(crate) struct Framed;

impl request_response::Codec for Framed {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read_frame(io).await
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        frame: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &frame).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        frame: Vec<u8>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &frame).await
    }
}

async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut len = 0u64;
    for shift in (0..).step_by(7) {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        len |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
        // Four bytes already say more than the limit, so that the shift cannot overflow.
        if shift >= 28 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the length of the frame has too many bytes",
            ));
        }
    }
    if len > MAX_FRAME_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {len} bytes is too long"),
        ));
    }
    let mut frame = vec![0; len as usize];
    io.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write_frame(io: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let mut out = Vec::with_capacity(frame.len() + 5);
    let mut len = frame.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(frame);
    io.write_all(&out).await?;
    io.flush().await
}
