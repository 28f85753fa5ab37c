public import Foundation

/// Where data goes: standard output, or a file.
public struct Output {
  private let handle: FileHandle
  private let name: String

  /// Standard output.
  public init() { self.init(.standardOutput, "standard output") }

  /// A file, emptied if it is there already; `-` for standard output.
  public init(path: String) throws(FileProblem) {
    guard path != "-" else {
      self.init()
      return
    }
    let manager = FileManager.default
    if !manager.fileExists(atPath: path) { _ = manager.createFile(atPath: path, contents: nil) }
    guard let handle = FileHandle(forWritingAtPath: path) else {
      throw FileProblem("\(path): cannot be written; is it a file in a folder of yours?")
    }
    let kind = try? manager.attributesOfItem(atPath: path)[.type] as? FileAttributeType
    if kind == .typeRegular {
      do { try handle.truncate(atOffset: 0) } catch { throw FileProblem("\(path): cannot be emptied") }
    }
    self.init(handle, path)
  }

  /// Checks that a file can be made, or made anew, before the work whose result it is to hold.
  public static func checkFolder(of path: String) throws(FileProblem) {
    let folder = URL(filePath: path).deletingLastPathComponent().path(percentEncoded: false)
    guard FileManager.default.isWritableFile(atPath: folder) else {
      throw FileProblem("\(path): cannot be written; is it a file in a folder of yours?")
    }
  }

  private init(_ handle: FileHandle, _ name: String) { (self.handle, self.name) = (handle, name) }

  /// Writes all of the data.
  ///
  /// - Throws: `FileProblem` when it cannot be written, as on a full disk.
  public func write(_ data: Data) throws(FileProblem) {
    do { try handle.write(contentsOf: data) } catch {
      throw FileProblem("\(name): cannot be written to; is there room on the disk?")
    }
  }

  /// Writes a text in UTF-8.
  public func write(_ text: String) throws(FileProblem) { try write(Data(text.utf8)) }
}
