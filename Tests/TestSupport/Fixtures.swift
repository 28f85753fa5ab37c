public import Foundation

/// Small test inputs under `Tests/Fixtures`; each folder contains the script that generated it.
public enum Fixtures {
  /// A file or folder among the fixtures.
  public static func url(_ path: String) -> URL {
    Goldens.folder.deletingLastPathComponent().appending(path: "Fixtures").appending(path: path)
  }
}
