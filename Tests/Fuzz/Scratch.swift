import Foundation

/// Files in memory for readers that take a path.
enum Scratch {
  /// The folder of the tests.
  static let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()

  private static let root: String = {
    let parent = FileManager.default.fileExists(atPath: "/dev/shm") ? "/dev/shm" : NSTemporaryDirectory()
    let root = parent + "/pdrop-fuzz-\(ProcessInfo.processInfo.processIdentifier)"
    try? FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    atexit { try? FileManager.default.removeItem(atPath: Scratch.root) }
    return root
  }()

  /// Replaces the file of a name by one of these bytes.
  ///
  /// - Returns: The path of the file.
  static func file(_ name: String, _ bytes: [UInt8]) throws -> String {
    let path = root + "/" + name
    // Readers may map the file, so that it is replaced, not rewritten.
    unsafe _ = unlink(path)
    let file = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    guard file >= 0 else { throw CocoaError(.fileWriteUnknown) }
    defer { close(file) }
    guard unsafe write(file, bytes, bytes.count) == bytes.count else { throw CocoaError(.fileWriteUnknown) }
    return path
  }

  /// The path of a folder with one file.
  static func folder(with name: String, _ bytes: [UInt8]) throws -> String {
    _ = try file(name, bytes)
    return root
  }
}
