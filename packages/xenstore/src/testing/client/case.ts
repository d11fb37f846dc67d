import type { XenstoreClient } from '../../client/client.js';

/** Something that {@link XenstoreClient} must do with any server. The store is changed under `/client` only. */
export interface ClientCase {
  /** What must hold, unlike that of any other case. */
  readonly name: string;
  /** `open` gives another client of domain 0, `openGuest` one of a new domain that has `/client` for its own. */
  readonly run: (store: XenstoreClient, open: OpenClient, openGuest: OpenClient) => Promise<void>;
  /** Needs a domain other than 0. */
  readonly guests?: true | undefined;
}

/** Another client, which is closed when the case has ended. */
export type OpenClient = () => Promise<XenstoreClient>;
