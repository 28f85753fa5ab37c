public import Foundation

/// Small hand-made inputs under `Tests/Fixtures`, each folder with the script that made it.
public enum Fixtures {
  /// A file or folder among the fixtures.
  public static func url(_ path: String) -> URL {
    Goldens.folder.deletingLastPathComponent().appending(path: "Fixtures").appending(path: path)
  }
}
