import Foundation
import Storage
import Testing

/// Advisory locks beside copies of a descriptor, as a process has that another thread is starting.
@Suite struct FileLockTests {
  @Test func `a closed file is unlocked while a copy of its descriptor is open`() throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "pdrop-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var file: OpenFile? = try OpenFile(appendingTo: path)
    #expect(file?.lock() == true)
    #expect(try !OpenFile(appendingTo: path).lock())
    let copy = try #require(descriptor(of: path).map { dup($0) })
    defer { close(copy) }
    file = nil
    #expect(try OpenFile(appendingTo: path).lock())
  }

  /// The open descriptor of a file, found in the list of the system.
  private func descriptor(of path: String) -> Int32? {
    let folder = "/dev/fd"
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    let resolved = URL(filePath: path).resolvingSymlinksInPath().path
    let name = names.first {
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "\(folder)/\($0)")) == resolved
    }
    return name.flatMap { Int32($0) }
  }
}
