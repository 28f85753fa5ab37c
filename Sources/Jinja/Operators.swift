import Foundation

/// Python's operators.
enum Operators {
  static func apply(
    _ operation: Arithmetic, _ a: JinjaValue, _ b: JinjaValue, _ meter: Meter
  ) throws(JinjaError) -> JinjaValue {
    if operation == .remainder, let format = a.text {
      return .string(try PercentFormat.text(format, b, meter))
    }
    if case .transient(.undefined(let reason)) = a { throw .undefined(reason, line: meter.line) }
    if case .transient(.undefined(let reason)) = b { throw .undefined(reason, line: meter.line) }
    if let a = a.integer, let b = b.integer { return try integers(operation, a, b, meter) }
    if let a = a.number, let b = b.number { return try finite(try numbers(operation, a, b, meter), meter) }
    switch operation {
    case .add: if let sum = try joined(a, b, meter) { return sum }
    case .multiply:
      if let count = b.integer, let product = try repeated(a, count, meter) { return product }
      if let count = a.integer, let product = try repeated(b, count, meter) { return product }
    default: break
    }
    throw meter.evaluation("\(symbol(operation)) of values of types \(a.typeName) and \(b.typeName)")
  }

  private static func symbol(_ operation: Arithmetic) -> String {
    switch operation {
    case .add: "+"
    case .subtract: "-"
    case .multiply: "*"
    case .divide: "/"
    case .floorDivide: "//"
    case .remainder: "%"
    case .power: "**"
    }
  }

  private static func integers(
    _ operation: Arithmetic, _ a: Int, _ b: Int, _ meter: Meter
  ) throws(JinjaError) -> JinjaValue {
    let result: (partialValue: Int, overflow: Bool)
    switch operation {
    case .add: result = a.addingReportingOverflow(b)
    case .subtract: result = a.subtractingReportingOverflow(b)
    case .multiply: result = a.multipliedReportingOverflow(by: b)
    case .divide:
      if b == 0 { throw meter.evaluation("a division by zero") }
      guard a.magnitude <= 1 << 53, b.magnitude <= 1 << 53 else {
        throw meter.unsupported(.operation, "/ of integers above 2**53")
      }
      return .double(Double(a) / Double(b))
    case .floorDivide, .remainder:
      if b == 0 { throw meter.evaluation("a division by zero") }
      if b == -1 {
        result = operation == .remainder ? (0, false) : a.multipliedReportingOverflow(by: -1)
      } else {
        let (quotient, remainder) = a.quotientAndRemainder(dividingBy: b)
        let isUneven = remainder != 0 && (remainder < 0) != (b < 0)
        result = (
          operation == .remainder ? (isUneven ? remainder + b : remainder) : quotient - (isUneven ? 1 : 0), false
        )
      }
    case .power:
      if b < 0 {
        if a == 0 { throw meter.evaluation("a division by zero") }
        return .double(pow(Double(a), Double(b)))
      }
      result = power(a, b)
    }
    if result.overflow { throw .limit("an integer that does not fit 64 bits", line: meter.line) }
    return .int(result.partialValue)
  }

  private static func power(_ base: Int, _ exponent: Int) -> (partialValue: Int, overflow: Bool) {
    var result = (partialValue: 1, overflow: false)
    var square = (partialValue: base, overflow: false)
    var rest = exponent
    while rest > 0 {
      if rest & 1 == 1 {
        if square.overflow { return (0, true) }
        result = result.partialValue.multipliedReportingOverflow(by: square.partialValue)
        if result.overflow { return result }
      }
      rest >>= 1
      if rest > 0, !square.overflow {
        square = square.partialValue.multipliedReportingOverflow(by: square.partialValue)
      }
    }
    return result
  }

  private static func numbers(
    _ operation: Arithmetic, _ a: Double, _ b: Double, _ meter: Meter
  ) throws(JinjaError) -> Double {
    switch operation {
    case .add: return a + b
    case .subtract: return a - b
    case .multiply: return a * b
    case .divide:
      if b == 0 { throw meter.evaluation("a division by zero") }
      return a / b
    case .floorDivide, .remainder:
      if b == 0 { throw meter.evaluation("a division by zero") }
      var remainder = a.truncatingRemainder(dividingBy: b)
      var quotient = (a - remainder) / b
      if remainder == 0 {
        remainder = Double(signOf: b, magnitudeOf: 0)
      } else if (b < 0) != (remainder < 0) {
        remainder += b
        quotient -= 1
      }
      if operation == .remainder { return remainder }
      if quotient == 0 { return Double(signOf: a / b, magnitudeOf: 0) }
      let floor = quotient.rounded(.down)
      return quotient - floor > 0.5 ? floor + 1 : floor
    case .power:
      if a == 0, b < 0 { throw meter.evaluation("a division by zero") }
      return pow(a, b)
    }
  }

  /// The number, if it is finite. Python has other rules for each operator, and jinja2 for constants.
  static func finite(_ number: Double, _ meter: Meter) throws(JinjaError) -> JinjaValue {
    guard number.isFinite else { throw meter.unsupported(.operation, "a number that is not finite") }
    return .double(number)
  }

  static func sign(_ value: JinjaValue, isNegative: Bool, _ meter: Meter) throws(JinjaError) -> JinjaValue {
    if case .transient(.undefined(let reason)) = value { throw .undefined(reason, line: meter.line) }
    if let integer = value.integer {
      guard isNegative else { return .int(integer) }
      if integer == .min { throw .limit("an integer that does not fit 64 bits", line: meter.line) }
      return .int(-integer)
    }
    guard case .double(let number) = value else {
      throw meter.evaluation("the sign of a value of type \(value.typeName)")
    }
    return .double(isNegative ? -number : number)
  }

  private static func joined(_ a: JinjaValue, _ b: JinjaValue, _ meter: Meter) throws(JinjaError) -> JinjaValue? {
    if let left = a.text, let right = b.text {
      try meter.charge(text: left.utf8.count + right.utf8.count)
      if case .string = a, case .string = b { return .string(left + right) }
      let escaped: Set<UInt8> = [0x22, 0x26, 0x27, 0x3C, 0x3E]
      for case .string(let plain) in [a, b] where plain.utf8.contains(where: escaped.contains) {
        throw meter.unsupported(.operation, "+ of escaped text")
      }
      return .transient(.markup(left + right))
    }
    switch (a, b) {
    case (.list(let left), .list(let right)):
      try meter.charge(left.count + right.count)
      return .list(left + right)
    case (.transient(.tuple(let left)), .transient(.tuple(let right))):
      try meter.charge(left.count + right.count)
      return .tuple(left + right)
    default: return nil
    }
  }

  private static func repeated(_ value: JinjaValue, _ count: Int, _ meter: Meter) throws(JinjaError) -> JinjaValue? {
    let count = max(count, 0)
    switch value {
    case .string(let text):
      try meter.charge(text: text.utf8.count, times: count)
      return .string(text.isEmpty ? "" : String(repeating: text, count: count))
    case .list(let items), .transient(.tuple(let items)):
      let (total, overflow) = items.count.multipliedReportingOverflow(by: count)
      try meter.charge(overflow ? .max : total)
      var result: [JinjaValue] = []
      if !items.isEmpty { for _ in 0..<count { result += items } }
      if case .list = value { return .list(result) }
      return .tuple(result)
    default: return nil
    }
  }

  // MARK: - Comparison

  static func compare(
    _ operation: Comparison, _ a: JinjaValue, _ b: JinjaValue, _ meter: Meter
  ) throws(JinjaError) -> Bool {
    switch operation {
    case .equal: return try a.equals(b, meter)
    case .notEqual: return try !a.equals(b, meter)
    case .greater: return try compare(.less, b, a, meter)
    case .greaterEqual: return try compare(.lessEqual, b, a, meter)
    default: break
    }
    try meter.charge(1)
    if case .transient(.undefined(let reason)) = a { throw .undefined(reason, line: meter.line) }
    if case .transient(.undefined(let reason)) = b { throw .undefined(reason, line: meter.line) }
    if let a = a.text, let b = b.text {
      try meter.charge(min(a.utf8.count, b.utf8.count) / 16)
      return operation == .less ? a.precedesByCodePoint(b) : !b.precedesByCodePoint(a)
    }
    if let a = a.integer, let b = b.integer { return operation == .less ? a < b : a <= b }
    if let a = a.number, let b = b.number { return operation == .less ? a < b : a <= b }
    switch (a, b) {
    case (.list(let a), .list(let b)), (.transient(.tuple(let a)), .transient(.tuple(let b))):
      for (a, b) in zip(a, b) where try !a.equals(b, meter) { return try compare(operation, a, b, meter) }
      return operation == .less ? a.count < b.count : a.count <= b.count
    default: throw meter.evaluation("an order of values of types \(a.typeName) and \(b.typeName)")
    }
  }
}

/// A stable sort, as Python's.
enum Sorting {
  /// The places of the keys in ascending or descending order.
  static func order(of keys: [JinjaValue], isReversed: Bool, _ meter: Meter) throws(JinjaError) -> [Int] {
    try meter.charge(keys.count)
    var order = Array(keys.indices)
    var width = 1
    while width < keys.count {
      var merged: [Int] = []
      merged.reserveCapacity(order.count)
      for start in stride(from: 0, to: order.count, by: 2 * width) {
        var left = start
        var right = min(start + width, order.count)
        let middle = right
        let end = min(start + 2 * width, order.count)
        while left < middle || right < end {
          if right == end {
            merged.append(order[left])
            left += 1
          } else if left == middle {
            merged.append(order[right])
            right += 1
          } else {
            let (a, b) = (keys[order[left]], keys[order[right]])
            let takesRight = try isReversed ? less(a, b, meter) : less(b, a, meter)
            merged.append(takesRight ? order[right] : order[left])
            if takesRight { right += 1 } else { left += 1 }
          }
        }
      }
      order = merged
      width *= 2
    }
    return order
  }

  private static func less(_ a: JinjaValue, _ b: JinjaValue, _ meter: Meter) throws(JinjaError) -> Bool {
    try Operators.compare(.less, a, b, meter)
  }
}

/// The bounds of a slice.
struct Slice {
  var start: Int?
  var stop: Int?
  var step: Int

  func elements(of value: JinjaValue, _ meter: Meter) throws(JinjaError) -> JinjaValue {
    if step == 0 { throw meter.evaluation("a slice with a step of 0") }
    if let items = value.sequence {
      let places = places(in: items.count)
      try meter.charge(places.count)
      let result = places.map { items[$0] }
      if case .list = value { return .list(result) }
      return .tuple(result)
    }
    switch value {
    case .string(let text):
      try meter.charge(text: text.utf8.count)
      let scalars = Array(text.unicodeScalars)
      return .string(String(String.UnicodeScalarView(places(in: scalars.count).map { scalars[$0] })))
    case .transient(.undefined(let reason)): throw .undefined(reason, line: meter.line)
    default: throw meter.unsupported(.operation, "a slice of a value of type \(value.typeName)")
    }
  }

  /// The places of the slice in a sequence of `count` elements.
  private func places(in count: Int) -> [Int] {
    func clamp(_ bound: Int?, _ missing: Int) -> Int {
      guard let bound else { return missing }
      let place = bound < 0 ? max(bound, -count - 1) + count : bound
      return min(max(place, step < 0 ? -1 : 0), step < 0 ? count - 1 : count)
    }
    let first = clamp(start, step < 0 ? count - 1 : 0)
    let end = clamp(stop, step < 0 ? -1 : count)
    return Array(stride(from: first, to: end, by: max(-count - 1, min(step, count + 1))))
  }
}
