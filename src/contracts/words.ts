/** English verbs as far as the naming rule needs them, as data. Lower case; regular past forms are recognised by their ending. */

const words = (text: string): ReadonlySet<string> => new Set(text.trim().split(/\s+/));

/** Past forms that can be nothing else, wherever they stand: UserBecameInactive. */
export const simplePast = words(`
  arose ate awoke became began bit blew broke came chose did drank drew drove fell flew forbade forgave forgot froze gave grew
  hid knew mistook ran rang rode rose sang sank shook shrank slew spoke sprang stank stole strode strove swam swore threw took
  tore trod undertook underwent went withdrew woke wore wove wrote
`);

/** Past participles that do not end in -ed: a fact at the end (FundsHeld), an attribute before a noun (SentItems). */
export const irregularPast = words(`
  arisen awoken beaten been begun bent bitten bled blown born borne bought bred broken brought built burnt caught chosen clung
  crept dealt done drawn dreamt driven drunk dug dwelt eaten fallen fed felt fled flown flung forbidden forgiven forgotten
  forsaken fought frozen given gone got gotten grown had heard held hidden hung kept knelt known laid lain leant leapt learnt
  led left lent lit lost made meant met mistaken mown paid proven ridden risen rung said sat sawn seen sent sewn shaken shone
  shorn shot shown shrunk slain slept slid slung sold sought sown spat sped spelt spent spilt spoken sprung spun stolen stood
  strewn stricken striven struck strung stuck stung stunk sung sunk swept swollen sworn swum swung taken taught thought thrown
  told torn trodden undergone understood undertaken wept withdrawn withheld woken won worn woven written wrung
`);

/** Their past is spelt like their infinitive, or like another verb's: an order when first, a fact when last. */
export const sameInPast = words(`
  become bet bid bound burst bust cast come cost cut fit found ground hit hurt let overcome put quit read rid run saw set shed shut split
  spread thrust upset wed wet wound
`);

/** Verbs only, never nouns in practice: a name that begins with one is an order. */
export const clearVerbs = words(`
  accept activate add adjust allocate allow analyze announce apply approve archive arrange ask assemble assign attach authenticate
  authorize become begin block book bring build bump calculate cancel capture choose clean clear close collect compile complete compose
  compress compute confirm connect consolidate convert copy create deactivate debit decline decode decrypt deduct deduplicate define
  delete deliver deploy deprovision detach detect determine disable discard disconnect dispatch display distribute do download drop
  emit empty enable encode encrypt enqueue enrich ensure erase escalate evaluate evict execute expire extend extract fetch fill find
  finalize finish fix flag flush forward fulfil fulfill gather generate get give grant handle hide import ingest initialize insert
  inspect install invalidate invite invoke issue keep link load lock log lower make mark merge migrate modify move normalize notify
  obtain offer open optimize pack parse pause pay perform permit pick post prepare prevent print process provision prune publish purge
  raise reassign rebuild recalculate reconcile record recover redeem redirect reduce refresh refund refuse register reindex reject
  release reload remind remove rename render renew reopen replace reply repost reprocess resend reserve resize resolve restart restore
  restrict resume retrieve return revert revoke rotate sanitize save scan schedule send serve settle ship show shrink sign split spread start stop
  store submit subscribe suspend sync synchronize take tell terminate throttle transcode translate trigger truncate try unassign unblock
  unlock unpublish unregister unsubscribe untag update upgrade upload upsert validate verify wait warm warn withdraw write
`);

/** Those of the verbs above that are common nouns too: before a past form they are the thing it happened to. */
export const nounVerbs = words(`
  archive bet bid block book build bump burst capture cast charge clean close complete copy cost cut debit deposit discard display dispatch download drop email
  escalate export extract fetch fill find fit fix flag flush hit import invite issue invoice link load lock log mail merge move
  offer order pack pause pay permit pick place post print process purge raise record refund register release reload rename reply
  request reserve restart return run scan schedule search serve ship show sign split spread start stop store subscribe sync take transfer
  trigger update upgrade upload wait
`);

/** Words that begin a question. */
export const questionWords = words(`
  are can could did do does has have how is may should was were what when where which who whose why will would
`);

/** Words that may follow a past form at the end: StockRanOut, UserSignedUp, ItemAddedToCart. */
export const afterPast = words(`
  about above across after again against ahead along apart around aside at away back before behind below between beyond by down due
  during early for from in inside into late off offline on once online onto open out outside over past per since through to together
  twice under until up upon via with within without
`);

/** Words that end in -ed and are no past forms. */
export const notPast = words(`
  bed biped bleed breed creed deed embed exceed feed greed heed hundred infrared kindred moped naked need proceed red reed sacred screed
  seed shed shred sled speed steed succeed ted weed wicked wretched zed newsfeed overfeed reseed
`);
