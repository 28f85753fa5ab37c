internal import Foundation

/// A question about every picture of a folder and the folders in it, in the order of their paths.
///
/// What the name does not call a picture is left out, as are hidden files and links to folders. Names are held in memory
/// for one folder at a time, and for those that it is in.
struct PictureFolder: RecordSource {
  /// What names end with that are taken for pictures: formats that are read, and others, which get an error record so
  /// that no picture is lost without a word.
  fileprivate static let endings: Set<String> = [
    "jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "heif", "avif", "jxl", "jp2",
  ]

  private let base: Request
  private let question: String
  private let members: BatchShard.Members
  private let count: Int
  private var walk: FolderWalk
  private var number = 0

  /// - Parameter base: The request for a picture, but for the picture.
  init(_ path: String, asking question: String, base: Request, shard: BatchShard) throws(BatchError) {
    self.base = base
    self.question = question
    walk = try FolderWalk(path, endings: Self.endings)
    var walk = walk
    var count = 0
    while try walk.next() != nil { count += 1 }
    self.count = count
    members = shard.members { count }
  }

  var share: Double? { count == 0 ? 1 : min(1, Double(number) / Double(count)) }

  mutating func next(waits: Bool) throws(BatchError) -> Taken<ReadRecord> {
    while let path = try walk.next() {
      number += 1
      guard members.contains(number) else { continue }
      let record = BatchRecord(family: .llava, number: number, identifier: .text(path), question: question)
      var request = base
      request.pictures = [.file(walk.root + "/" + path)]
      return .value(ReadRecord(record: record, request: .success(request)))
    }
    return .end
  }
}

extension VisionLanguageModel {
  /// The paths of all pictures in a folder and the folders in it, relative to it and in order.
  ///
  /// - Throws: `BatchError` for a folder that cannot be read.
  package static func pictures(inFolder path: String) throws(BatchError) -> [String] {
    var walk = try FolderWalk(path, endings: PictureFolder.endings)
    var paths: [String] = []
    while let path = try walk.next() { paths.append(path) }
    return paths
  }
}

/// Goes through a folder and the folders in it.
private struct FolderWalk {
  let root: String
  private let endings: Set<String>
  /// What is still to be visited in the folder that was entered last, and in those around it; the next one is last.
  private var pending: [[String]]

  init(_ root: String, endings: Set<String>) throws(BatchError) {
    (self.root, self.endings) = (root, endings)
    pending = []
    pending = [try entries(below: "")]
  }

  /// The next file's path below the root.
  mutating func next() throws(BatchError) -> String? {
    while !pending.isEmpty {
      guard let path = pending[pending.count - 1].popLast() else {
        pending.removeLast()
        continue
      }
      if path.hasSuffix("/") {
        pending.append(try entries(below: path))
      } else {
        return path
      }
    }
    return nil
  }

  /// The pictures and folders in a folder, last first, folders with a `/` at their end.
  private func entries(below folder: String) throws(BatchError) -> [String] {
    let manager = FileManager.default
    let path = root + "/" + folder
    let names: [String]
    do { names = try manager.contentsOfDirectory(atPath: path) } catch {
      throw .unreadable(path: path, reason: "is it a folder?")
    }
    let entries = names.filter { !$0.hasPrefix(".") }.compactMap { name -> String? in
      if endings.contains((name as NSString).pathExtension.lowercased()) { return folder + name }
      let kind = try? manager.attributesOfItem(atPath: path + "/" + name)[.type] as? FileAttributeType
      return kind == .typeDirectory ? folder + name + "/" : nil
    }
    return entries.sorted { $1.utf8.lexicographicallyPrecedes($0.utf8) }
  }
}
