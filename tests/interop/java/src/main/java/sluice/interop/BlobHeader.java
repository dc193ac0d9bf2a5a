package sluice.interop;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.ratis.thirdparty.com.google.protobuf.ByteString;
import org.apache.ratis.thirdparty.com.google.protobuf.CodedInputStream;
import org.apache.ratis.thirdparty.com.google.protobuf.CodedOutputStream;
import org.apache.ratis.thirdparty.com.google.protobuf.WireFormat;

/** {@code sluice.BlobHeader} and {@code sluice.BlobReply} of proto/sluice/blob.proto, by their field numbers. */
final class BlobHeader {
  /** What the blob machine answers. */
  record Reply(String name, long length, ByteString digest) {}

  private BlobHeader() {}

  /** A length below 0 and a null digest are left out. */
  static ByteString encode(String name, long length, byte[] digest) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    CodedOutputStream out = CodedOutputStream.newInstance(bytes);
    try {
      out.writeString(1, name);
      if (length >= 0) {
        out.writeUInt64(2, length);
      }
      if (digest != null) {
        out.writeByteArray(3, digest);
      }
      out.flush();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return ByteString.copyFrom(bytes.toByteArray());
  }

  static Reply decodeReply(ByteString content) throws IOException {
    String name = "";
    long length = 0;
    ByteString digest = ByteString.EMPTY;
    CodedInputStream in = content.newCodedInput();
    for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
      switch (WireFormat.getTagFieldNumber(tag)) {
        case 1 -> name = in.readString();
        case 2 -> length = in.readUInt64();
        case 3 -> digest = in.readBytes();
        default -> in.skipField(tag);
      }
    }
    return new Reply(name, length, digest);
  }
}
