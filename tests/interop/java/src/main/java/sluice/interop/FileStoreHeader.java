package sluice.interop;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.ratis.thirdparty.com.google.protobuf.ByteString;
import org.apache.ratis.thirdparty.com.google.protobuf.CodedOutputStream;

/** The header and the answer of a stream to the FileStore example of Ratis. */
final class FileStoreHeader {
  private interface Fields {
    void write(CodedOutputStream out) throws IOException;
  }

  private FileStoreHeader() {}

  /** FileStoreRequestProto{stream = 4 {path = 1, length = 2}}. */
  static ByteString encode(String path, long length) {
    ByteString stream = message(out -> {
      out.writeBytes(1, ByteString.copyFromUtf8(path));
      if (length != 0) {
        out.writeUInt64(2, length);
      }
    });
    return message(out -> out.writeBytes(4, stream));
  }

  /** StreamWriteReplyProto{isSuccess = 1, byteWritten = 2}. */
  static ByteString encodeReply(long length) {
    return message(out -> {
      out.writeBool(1, true);
      if (length != 0) {
        out.writeUInt64(2, length);
      }
    });
  }

  private static ByteString message(Fields fields) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    CodedOutputStream out = CodedOutputStream.newInstance(bytes);
    try {
      fields.write(out);
      out.flush();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return ByteString.copyFrom(bytes.toByteArray());
  }
}
