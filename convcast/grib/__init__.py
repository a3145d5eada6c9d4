"""Read and write GRIB2 messages. Only this package uses ecCodes."""

from convcast.grib.messages import IGNORED, EnsembleSpec, Message, MessageHeader, decode, encode, read_messages

__all__ = ["IGNORED", "EnsembleSpec", "Message", "MessageHeader", "decode", "encode", "read_messages"]
