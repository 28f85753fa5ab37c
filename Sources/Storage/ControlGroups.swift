import Foundation

/// The control groups of this process, each with all its parents, whose limits hold together.
struct ControlGroups {
  /// The prefix of all system paths; a temporary folder in tests.
  private let system: SystemFiles
  /// The mount points of version 2: alone, and beside version 1.
  private static let unifiedMounts = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]

  init(_ system: SystemFiles) { self.system = system }

  /// Folders of the version 2 groups.
  var unified: [String] {
    lines.filter { $0.number == "0" }.flatMap { line in
      Self.unifiedMounts.flatMap { Self.folders(of: line.group, below: $0) }
    }
  }

  /// Folders of the version 1 groups of a controller, such as `cpu`.
  func folders(of controller: String) -> [String] {
    lines.filter { $0.controllers.split(separator: ",").contains(Substring(controller)) }.flatMap { line in
      // The mount point has the names of all its controllers, or is a link with the name of one.
      Set([controller, String(line.controllers)]).flatMap { name in
        Self.folders(of: line.group, below: "/sys/fs/cgroup/" + name)
      }
    }
  }

  private typealias Line = (number: Substring, controllers: Substring, group: Substring)

  /// The lines of `/proc/self/cgroup`: number, controllers and group, separated by colons.
  private var lines: [Line] {
    (system.text("/proc/self/cgroup") ?? "").split(separator: "\n").compactMap { line in
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      return parts.count == 3 ? (parts[0], parts[1], parts[2]) : nil
    }
  }

  /// The folder of a group and those of its parents, up to the mount point.
  ///
  /// In a container, the group may be named from outside the mount point: its own folder is missing then, and the mount
  /// point is the group of the container.
  private static func folders(of group: Substring, below mount: String) -> [String] {
    let names = group.split(separator: "/")
    guard !names.contains("..") else { return [mount] }
    return (0...names.count).reversed().map { count in mount + names.prefix(count).map { "/" + $0 }.joined() }
  }
}

/// Small files of the `/proc` and `/sys` file systems.
struct SystemFiles {
  /// The prefix of all paths; a temporary folder in tests.
  let root: String

  /// The text of a file; `nil` if it cannot be read.
  func text(_ path: String) -> String? {
    // System files report no size, so they are read to the end.
    FileManager.default.contents(atPath: root + path).map { String(decoding: $0, as: UTF8.self) }
  }

  /// The words of a file, such as `150000 100000`; empty if it cannot be read.
  func words(_ path: String) -> [Substring] { text(path)?.split(whereSeparator: \.isWhitespace) ?? [] }

  /// The number in a file, at least 0; `nil` for another text such as `max`.
  func number(_ path: String) -> Int? { words(path).first.flatMap(Self.number) }

  /// The number after a name in a file with a line for each, such as `MemAvailable: 8388608 kB`.
  func number(after name: String, in path: String) -> Int? {
    let line = text(path)?.split(separator: "\n").first { $0.hasPrefix(name) }
    return line?.dropFirst(name.count).split(whereSeparator: \.isWhitespace).first.flatMap(Self.number)
  }

  /// The bytes after a name in a file whose lines are in kB.
  func kilobytes(after name: String, in path: String) -> Int? {
    number(after: name + ":", in: path).flatMap { kilobytes in
      let (bytes, overflows) = kilobytes.multipliedReportingOverflow(by: 1024)
      return overflows ? nil : bytes
    }
  }

  static func number(_ word: Substring) -> Int? { Int(word).flatMap { $0 >= 0 ? $0 : nil } }
}
