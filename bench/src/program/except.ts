/** An object that is another one, but for some of its methods. */
export function except<T extends object>(inner: T, methods: Partial<T>): T {
  return new Proxy(inner, {
    get(target, key) {
      const own = (methods as Record<PropertyKey, unknown>)[key];
      const value = own ?? (Reflect.get(target, key, target) as unknown);
      return typeof value === 'function' && own === undefined ? value.bind(target) : value;
    },
  });
}
