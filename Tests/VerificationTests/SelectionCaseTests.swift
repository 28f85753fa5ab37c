import Foundation
import TestSupport
import Testing
import Verification

/// Selections of the published codes; see the README of the goldens.
@Suite struct SelectionCaseTests {
  private struct Golden: Decodable {
    struct Orders: Decodable {
      let orders: [[Int]]

      init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        orders = try (try? value.decode([[Int]].self)) ?? [value.decode([Int].self)]
      }
    }

    struct Expected: Decodable {
      let order: Orders
      let sorted: Orders
    }

    let method: String
    let expected: Expected
  }

  static let names =
    ((try? FileManager.default.contentsOfDirectory(atPath: Goldens.path("select"))) ?? [])
    .filter { $0.hasSuffix(".safetensors") }.map { String($0.dropLast(12)) }.sorted()

  @Test func `there are 29 cases`() { #expect(Self.names.count == 29) }

  @Test(arguments: names, [1, 3])
  func `the order is that of the published code`(name: String, threads: Int) throws {
    let golden = try Goldens.json("select/\(name).json", as: Golden.self)
    let result = try SelectionCase(
      Goldens.path("select/\(name).safetensors"), method: golden.method, SelectionCase.Parameters()
    ).run(threads: threads)
    #expect(result.orders == golden.expected.order.orders)
    #expect(result.orders.map { $0.sorted() } == golden.expected.sorted.orders)
  }

  @Test func `parameters replace those of the file`() throws {
    var parameters = SelectionCase.Parameters()
    parameters.tokens = 5
    let path = Goldens.path("select/scope-n64-k16.safetensors")
    let five = try SelectionCase(path, method: "scope", parameters).run(threads: 1).orders[0]
    let golden = try Goldens.json("select/scope-n64-k16.json", as: Golden.self)
    #expect(five == Array(golden.expected.order.orders[0].prefix(5)))
    (parameters.tokens, parameters.share) = (nil, 0.25)
    #expect(try SelectionCase(path, method: "scope", parameters).run(threads: 1).orders == golden.expected.order.orders)
  }

  @Test(arguments: [
    ("scope", "class-n64-k16", "tower_features"), ("mmtok", "divprune-n64-k16", "tower_features"),
    ("divprune", "scope-n64-k16", "projected"), ("tops", "scope-n64-k16", "projected"),
  ])
  func `a missing tensor is named`(method: String, name: String, tensor: String) throws {
    do {
      _ = try SelectionCase(Goldens.path("select/\(name).safetensors"), method: method, .init()).run(threads: 1)
      Issue.record("no error")
    } catch {
      #expect("\(error)".contains(tensor) && !"\(error)".contains("\n"))
    }
  }

  @Test func `impossible parameters are refused`() throws {
    let path = Goldens.path("select/vscan-n64-k32-w2.safetensors")
    func message(_ change: (inout SelectionCase.Parameters) -> Void) -> String {
      var parameters = SelectionCase.Parameters()
      change(&parameters)
      do {
        _ = try SelectionCase(path, method: "vscan", parameters).run(threads: 1)
        return ""
      } catch { return "\(error)" }
    }
    #expect(message { $0.grid = [7, 9] }.contains("--grid"))
    #expect(message { $0.grid = [.max, .max] }.contains("--grid"))
    #expect(message { $0.window = 0 }.contains("--window"))
    #expect(message { $0.window = .max }.contains("--window"))
    #expect(message { $0.tokens = -1 }.contains("--tokens"))
    #expect(message { $0.share = 1.5 }.contains("--share"))
  }
}
