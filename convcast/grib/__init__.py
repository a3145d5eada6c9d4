"""GRIB2 messages in and out. Only this package uses ecCodes."""

from convcast.grib.messages import IGNORED, Header, Message, OfEnsemble, decode, encode, read_messages

__all__ = ["IGNORED", "Header", "Message", "OfEnsemble", "decode", "encode", "read_messages"]
