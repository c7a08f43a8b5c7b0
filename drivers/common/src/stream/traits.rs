//! The io traits of both families, for a whole stream and for its halves.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use super::{ReadHalf, Stream, WriteHalf};
use crate::error::stream_error;

macro_rules! read {
    ($($type:ident),*) => {
        $(
            impl futures_io::AsyncRead for $type {
                fn poll_read(
                    mut self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buffer: &mut [u8],
                ) -> Poll<io::Result<usize>> {
                    let Self { inner, read, .. } = &mut *self;
                    let (len, mut done) = (buffer.len(), 0);
                    let put = |part: &[u8]| {
                        buffer[done..done + part.len()].copy_from_slice(part);
                        done += part.len();
                    };
                    inner.poll_read(cx, read, put, len).map_err(stream_error)
                }
            }

            #[cfg(feature = "tokio")]
            impl tokio::io::AsyncRead for $type {
                fn poll_read(
                    mut self: Pin<&mut Self>,
                    cx: &mut Context<'_>,
                    buffer: &mut tokio::io::ReadBuf<'_>,
                ) -> Poll<io::Result<()>> {
                    let Self { inner, read, .. } = &mut *self;
                    let len = buffer.remaining();
                    inner.poll_read(cx, read, |part| buffer.put_slice(part), len).map_ok(|_| ()).map_err(stream_error)
                }
            }
        )*
    };
}

macro_rules! write {
    ($($type:ident),*) => {
        $(
            impl futures_io::AsyncWrite for $type {
                fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
                    self.inner.poll_write(cx, data).map_err(stream_error)
                }

                /// What is written is under way already.
                fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Ready(Ok(()))
                }

                /// Queues the end of the stream. Closing what is closed does nothing.
                fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Ready(close(self.inner.finish()))
                }
            }

            #[cfg(feature = "tokio")]
            impl tokio::io::AsyncWrite for $type {
                fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
                    self.inner.poll_write(cx, data).map_err(stream_error)
                }

                /// What is written is under way already.
                fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Ready(Ok(()))
                }

                /// Queues the end of the stream. Closing what is closed does nothing.
                fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                    Poll::Ready(close(self.inner.finish()))
                }
            }
        )*
    };
}

fn close(result: Result<(), peerwork::StreamError>) -> io::Result<()> {
    match result {
        Ok(()) | Err(peerwork::StreamError::Finished) => Ok(()),
        Err(error) => Err(stream_error(error)),
    }
}

read!(Stream, ReadHalf);
write!(Stream, WriteHalf);
