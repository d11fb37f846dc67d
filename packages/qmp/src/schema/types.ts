/**
 * The types of commands' arguments and results, after QAPI (QEMU's docs/devel/qapi-code-gen.rst). A member whose name
 * ends in `?` is optional.
 */
export type QmpType =
  | 'str'
  /** A whole number that JavaScript has exactly. */
  | 'int'
  /** The same, not negative: bytes, for the most part. */
  | 'size'
  | 'number'
  | 'bool'
  | 'any'
  /** One of these words. */
  | { readonly enum: readonly string[] }
  /** Any number of values of one type. */
  | { readonly array: QmpType }
  /** These members, and no others. */
  | { readonly object: QmpMembers };

/** The members of an object, by name. */
export interface QmpMembers {
  readonly [name: string]: QmpType;
}

/** What a type is in TypeScript. */
export type QmpValue<T> = T extends 'str'
  ? string
  : T extends 'int' | 'size' | 'number'
    ? number
    : T extends 'bool'
      ? boolean
      : T extends { readonly enum: readonly (infer E)[] }
        ? E
        : T extends { readonly array: infer Item }
          ? readonly QmpValue<Item>[]
          : T extends { readonly object: infer Members }
            ? QmpArguments<Members>
            : unknown;

/** What members are in TypeScript. */
export type QmpArguments<Members> = {
  readonly [Name in keyof Members as Name extends `${string}?` ? never : Name]: QmpValue<Members[Name]>;
} & {
  readonly [Name in keyof Members as Name extends `${infer Optional}?` ? Optional : never]?:
    | QmpValue<Members[Name]>
    | undefined;
};
